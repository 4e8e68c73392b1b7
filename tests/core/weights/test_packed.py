"""Packed matrices against plain products with the values that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from core.decoder.plan import Computed, Plan
from core.models.checkpoint import StoredTensor
from core.technique import NoOptions
from core.weights.gguf_codes import QUANTIZED
from core.weights.native import Native
from core.weights.packed import Packed
from core.weights.rounding import quantize
from core.weights.rtn import Rtn
from core.weights.table import RtnOptions
from tests.core.compiled.instructions import sum_products_in

pytestmark = pytest.mark.usefixtures("one_thread")
BITS = range(2, 9)
HALVES = {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "Q4_1": (0, 2), "Q5_1": (0, 2)}  # float16 fields of a block


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def allowed(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What rounding activations to 16 bits can add to each product [T, N], and float32 sums a little more."""
    return (x.abs().amax(1, keepdim=True) * weight.abs().sum(1) * 2**-16) + 1e-4 * (1 + (x @ weight.T).abs())


def rounded(weight: torch.Tensor, bits: int, group_size: int) -> torch.Tensor:
    """Each group of a row on an even grid from its least to its largest value, the grid's ends in float16."""
    rows = []
    for row in weight:
        parts = []
        for group in row.split(group_size or len(row)):
            low = group.min().half().float()
            step = ((group.max() - low) / (2**bits - 1)).half().float()
            codes = ((group - low) / (step if step != 0 else 1)).round().clamp(0, 2**bits - 1)
            parts.append(codes * step + low)
        rows.append(torch.cat(parts))
    return torch.stack(rows)


@pytest.mark.parametrize("group_size", [0, 1, 7, 32, 50, 1000])
@pytest.mark.parametrize("bits", BITS)
def test_that_rtn_multiplies_by_the_nearest_step_of_each_group(bits: int, group_size: int) -> None:
    weight, bias = random(37, 100), random(37)
    linear = Packed(quantize(weight.numpy(), bits, group_size), bias)
    expected = rounded(weight, bits, group_size)
    assert (linear.dense() - expected).abs().max() < 1e-5
    for rows in (1, 5, 70):
        x = random(rows, 100)
        assert ((linear(x) - (x @ expected.T + bias)).abs() <= allowed(x, expected)).all()


def test_that_bytes_shrink_with_bits_to_codes_and_scales() -> None:
    weight = random(64, 512)
    sizes = [Packed(quantize(weight.numpy(), bits, 64)).nbytes for bits in BITS]
    assert sizes == [64 * 512 * bits // 8 + 64 * 8 * 2 * 2 for bits in BITS]


def test_that_rtn_leaves_other_layers_and_the_head_as_stored(tiny_plan: Plan) -> None:
    weights, source = Rtn(RtnOptions(3, 32, "1"), tiny_plan), Computed(random(40, 64))
    assert torch.equal(weights.linear([source], None, 0).dense(), source.tensor)
    assert torch.equal(weights.linear([source], None, None).dense(), source.tensor)
    assert (weights.linear([source], None, 1).dense() - rounded(source.tensor, 3, 32)).abs().max() < 1e-5


def stored(kind: str, rows: int, columns: int) -> tuple[StoredTensor, torch.Tensor]:
    """Random blocks of a GGUF type, and the values that the gguf package gives them."""
    values, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    generator = np.random.default_rng(rows)
    blocks = generator.integers(0, 256, (rows * columns // values, size), dtype=np.uint8)
    for start in HALVES.get(kind, (0,)):
        scales = generator.uniform(-0.02, 0.02, (len(blocks), 1)).astype(np.float16)
        blocks[:, start : start + 2] = scales.view(np.uint8)
    blocks = blocks.reshape(rows, -1)
    expected = torch.from_numpy(dequantize(blocks, GGMLQuantizationType[kind]).astype(np.float32))
    return StoredTensor("random", kind, (rows, columns), blocks), expected


@pytest.mark.parametrize("kind", sorted(QUANTIZED))
def test_that_a_gguf_type_is_multiplied_by_its_own_values(kind: str, tiny_plan: Plan) -> None:
    tensor, expected = stored(kind, 34, 512)
    linear = Native(NoOptions(), tiny_plan).linear([tensor], None, 0)
    assert isinstance(linear, Packed)
    assert (linear.dense() - expected).abs().max() <= 1e-6 * expected.abs().max()
    for rows in (1, 5, 70):
        x = random(rows, 512)
        assert ((linear(x) - x @ expected.T).abs() <= allowed(x, expected)).all()


def test_that_matrices_of_different_types_are_joined(tiny_plan: Plan) -> None:
    (first, a), (second, b) = stored("Q4_1", 32, 256), stored("Q6_K", 48, 256)
    bias, x = random(80), random(3, 256)
    linear = Native(NoOptions(), tiny_plan).linear([first, second], bias, 0)
    assert ((linear(x) - (x @ torch.cat([a, b]).T + bias)).abs() <= allowed(x, torch.cat([a, b]))).all()
    assert first.nbytes + second.nbytes <= linear.nbytes < 1.3 * (first.nbytes + second.nbytes)


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0", "Q6_K", 3, 7])
@pytest.mark.parametrize("rows", [2, 5, 8, 9, 64])
def test_that_rows_come_out_the_same_alone_and_in_company(kind: str | int, rows: int, tiny_plan: Plan) -> None:
    if isinstance(kind, int):
        linear = Rtn(RtnOptions(kind, 48), tiny_plan).linear([Computed(random(50, 256))], random(50), 0)
    else:
        linear = Native(NoOptions(), tiny_plan).linear([stored(kind, 50, 256)[0]], random(50), 0)
    x = random(rows, 256)
    assert torch.equal(linear(x), torch.cat([linear(row) for row in x.split(1)]))


@pytest.mark.parametrize("lanes", [16, 8, 0])
@pytest.mark.parametrize("bits", BITS)
def test_that_other_processors_give_the_same_bits(bits: int, lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    linear, x = Packed(quantize(random(48, 384).numpy(), bits, 128)), random(5, 384)
    expected = linear(x)
    sum_products_in(lanes, monkeypatch)
    assert torch.equal(linear(x), expected)
