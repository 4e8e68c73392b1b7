"""bitsandbytes' formats on the processor, against plain products with what they store."""

from __future__ import annotations

import builtins
from typing import Any

import bitsandbytes
import pytest
import torch

from core.decoder.plan import Computed
from core.errors import BadInput
from core.weights import bnb
from core.weights.bnb import Int8Linear, Nf4Linear

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPES = [(96, 64), (64, 192), (33, 70)]


def matrix(rows: int, columns: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows)) * 0.1


def inputs(rows: int, columns: int) -> torch.Tensor:
    """With a few large values, as transformers have them."""
    x = torch.randn(rows, columns, generator=torch.Generator().manual_seed(columns))
    x[:, 5] *= 20
    return x


@pytest.mark.parametrize("rows", [1, 3, 20])
@pytest.mark.parametrize("shape", SHAPES)
def test_that_int8_multiplies_large_inputs_exactly_and_the_rest_in_steps_of_their_row(
    shape: tuple[int, int], rows: int
) -> None:
    weight, x = matrix(*shape), inputs(rows, shape[1])
    largest = weight.abs().amax(dim=1, keepdim=True)
    stored = (weight * 127 / largest).round() * largest / 127
    rest = torch.where(x.abs() >= 6, 0, x)
    step = rest.abs().amax(dim=1, keepdim=True) / 127
    expected = (x - rest) @ stored.T + (rest / step).round() * step @ stored.T
    linear = Int8Linear(bitsandbytes, weight, None)
    assert (linear(x) - expected).abs().max() < 1e-4
    assert (linear.dense() - stored).abs().max() < 1e-6


@pytest.mark.parametrize("rows", [1, 3, 20])
@pytest.mark.parametrize("shape", SHAPES)
def test_that_nf4_multiplies_by_the_nearest_quantile_of_each_block(shape: tuple[int, int], rows: int) -> None:
    weight, x = matrix(*shape), inputs(rows, shape[1])
    expected = x @ nearest_quantiles(weight).T
    found = Nf4Linear(bitsandbytes, weight, None)(x)
    assert (found - expected).abs().max() < 0.01 * expected.abs().max()  # the packed kernel computes in bfloat16


def nearest_quantiles(weight: torch.Tensor) -> torch.Tensor:
    """The values of Dettmers et al. 2023, appendix E, times the largest magnitude of each block of 64."""
    values = torch.tensor([
        -1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0, 0.0795803, 0.1609302,
        0.24611230, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0,
    ])  # fmt: skip
    flat = torch.nn.functional.pad(weight.flatten(), (0, -weight.numel() % 64)).reshape(-1, 64)
    largest = flat.abs().amax(dim=1, keepdim=True)
    nearest = values[((flat / largest)[..., None] - values).abs().argmin(dim=-1)]
    return (nearest * largest).flatten()[: weight.numel()].reshape(weight.shape)


@pytest.mark.parametrize("kind", [Int8Linear, Nf4Linear])
@pytest.mark.parametrize("shape", SHAPES)
def test_that_rows_come_out_the_same_alone_and_in_company(kind: Any, shape: tuple[int, int]) -> None:
    linear, x = kind(bitsandbytes, matrix(*shape), torch.ones(shape[0])), inputs(6, shape[1])
    assert torch.equal(linear(x), torch.cat([linear(row) for row in x.split(1)]))


@pytest.mark.parametrize(("kind", "bits"), [(Int8Linear, 8), (Nf4Linear, 4)])
def test_that_the_stated_bytes_are_codes_and_scales(kind: Any, bits: int) -> None:
    linear = kind(bitsandbytes, matrix(96, 256), None)
    assert 96 * 256 * bits / 8 < linear.nbytes <= 96 * 256 * (bits + 0.5) / 8


def test_that_layers_left_out_and_the_head_stay_as_stored(tiny_plan: Any) -> None:
    from core.weights.table import LayersOptions

    weights = bnb.Nf4(LayersOptions("0"), tiny_plan)
    source = Computed(matrix(64, 64))
    assert isinstance(weights.linear([source], None, 0), Nf4Linear)
    for layer in (1, None):
        assert torch.equal(weights.linear([source], None, layer).dense(), source.tensor)


def test_that_a_missing_library_is_said(monkeypatch: pytest.MonkeyPatch, tiny_plan: Any) -> None:
    from core.weights.table import LayersOptions

    def refused(name: str, *rest: Any, **named: Any) -> Any:
        if name == "bitsandbytes":
            raise ImportError("no such library")
        return real(name, *rest, **named)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", refused)
    with pytest.raises(BadInput, match="bitsandbytes cannot be loaded"):
        bnb.Int8(LayersOptions(), tiny_plan)
