"""Products on matrix tiles against plain products of the same bfloat16 numbers."""

from __future__ import annotations

import pytest
import torch

from core.compiled import tiles
from core.weights.packed import Packed
from core.weights.rounding import quantize

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not tiles.available(), reason="this processor has no matrix tiles (AMX)"),
]


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(("outputs", "inputs", "rows"), [(32, 32, 66), (48, 64, 97), (100, 160, 70), (1008, 576, 130)])
def test_that_products_equal_plain_ones(bits: int, outputs: int, inputs: int, rows: int) -> None:
    """To what rounding the result to bfloat16 costs: sums are of float32."""
    linear = Packed(quantize(random(outputs, inputs).numpy(), bits, 32))
    x, weight = random(rows, inputs).bfloat16(), linear.dense().bfloat16().float()
    expected = x.float() @ weight.T
    assert linear._fits_tiles
    error = (linear.many(x).float() - expected).abs()
    assert (error <= 2**-8 * expected.abs() + 1e-4 * inputs**0.5).all()


def test_that_a_row_is_the_same_whatever_rows_are_with_it() -> None:
    linear, x = Packed(quantize(random(112, 96).numpy(), 4, 32)), random(300, 96).bfloat16()
    together = linear.many(x)
    for first, last in ((0, 65), (65, 137), (137, 300)):
        assert torch.equal(linear.many(x[first:last]), together[first:last])


def test_that_large_matrices_are_unpacked_part_by_part() -> None:
    """More strips than a thread unpacks at a time, and more rows than it multiplies in turn."""
    linear, x = Packed(quantize(random(1040, 1536).numpy(), 4, 32)), random(600, 1536).bfloat16()
    expected = x.float() @ linear.dense().bfloat16().float().T
    assert (linear.many(x).float() - expected).abs().max() <= 2**-8 * expected.abs().max()


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize(("inner", "inputs", "rows"), [(16, 32, 70), (112, 96, 129), (1536, 576, 96)])
def test_that_gated_products_equal_plain_ones(inner: int, inputs: int, rows: int, gelu: bool) -> None:
    linear, x = Packed(quantize(random(2 * inner, inputs).numpy(), 4, 32)), random(rows, inputs).bfloat16()
    gate, up = (x.float() @ linear.dense().bfloat16().float().T).split(inner, dim=1)
    act = torch.nn.functional.gelu(gate, approximate="tanh") if gelu else torch.nn.functional.silu(gate)
    found = linear.many_gated(x, gelu)
    assert found is not None
    assert ((found.float() - act * up).abs() <= 2**-8 * (act * up).abs() + 1e-4 * inputs).all()


def test_that_odd_sizes_go_another_way() -> None:
    """Groups that are padded, columns that fill no tile, too few outputs for two tiles."""
    for outputs, inputs, group_size in ((64, 100, 50), (64, 40, 8), (16, 64, 32)):
        linear, x = Packed(quantize(random(outputs, inputs).numpy(), 4, group_size)), random(70, inputs).bfloat16()
        expected = x.float() @ linear.dense().bfloat16().float().T
        assert not linear._fits_tiles
        assert (linear.many(x).float() - expected).abs().max() <= 2**-7 * expected.abs().max()
