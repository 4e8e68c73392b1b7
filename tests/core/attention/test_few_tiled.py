"""Attention of a few rows on matrix tiles, against plain products."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from core.attention.few_laid import laid_nbytes
from core.attention.few_tiled import kernels
from core.cache.base import lines
from core.compiled import tiles
from core.compiled.jit import callable_at

pytestmark = pytest.mark.skipif(not tiles.available(), reason="this processor has no matrix tiles (AMX)")
SLOTS, STRIDE = 144, 160


def scores_and_sums(q: Tensor, keys: Tensor, values: Tensor, weights: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
    """Scores [queries, slots] and weighted sums of values [queries, D] of slots first … last − 1."""
    queries, size = q.shape
    scores, sums, laid = torch.zeros(queries, STRIDE), torch.ones(queries, size), lines(laid_nbytes(size, queries))
    code = kernels(size)
    callable_at(code["open_tiles"], 1)(code["tiles_config"])
    callable_at(code["lay_queries"], 3)(q.data_ptr(), queries, laid.data_ptr())
    shape = queries, scores.data_ptr(), STRIDE, first, last
    callable_at(code["scores_kernel"], 7)(keys.data_ptr(), laid.data_ptr(), *shape)
    shape = queries, STRIDE, sums.data_ptr(), first, last
    callable_at(code["mix_kernel"], 7)(values.data_ptr(), weights.data_ptr(), *shape)
    callable_at(code["close_tiles"], 0)()
    return scores[:, first:last], sums - 1


def drawn(queries: int, size: int, first: int, last: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys, values and weights; what is not to be read is not a number."""
    keys, values = (torch.full((SLOTS, size), torch.nan, dtype=torch.bfloat16) for _ in range(2))
    keys[first:last], values[first:last] = torch.randn(2, last - first, size).bfloat16()
    weights = torch.full((queries, STRIDE), torch.nan)
    weights[:, first:last] = torch.rand(queries, last - first)
    return torch.randn(queries, size), keys, values, weights


@pytest.mark.parametrize("queries", [1, 3, 4, 5, 8, 15, 24])
@pytest.mark.parametrize(("size", "first", "last"), [(64, 0, 128), (64, 5, 83), (32, 17, 20), (96, 0, 64), (256, 3, 100)])
def test_that_scores_and_sums_equal_plain_products(queries: int, size: int, first: int, last: int) -> None:
    q, keys, values, weights = drawn(queries, size, first, last)
    scores, sums = scores_and_sums(q, keys, values, weights, first, last)
    assert torch.allclose(scores, q @ keys[first:last].float().T, atol=5e-6 * size, rtol=1e-5)
    assert torch.allclose(sums, weights[:, first:last] @ values[first:last].float(), atol=1e-4)


@pytest.mark.parametrize("first", [0, 5])
@pytest.mark.parametrize("size", [64, 128])
def test_that_a_row_comes_out_the_same_whatever_is_computed_with_it(first: int, size: int) -> None:
    q, keys, values, weights = drawn(15, size, 0, 120)
    weights[:, :first] = 0
    together = scores_and_sums(q, keys, values, weights, 0, 120)
    for row in (0, 7, 14):
        one = slice(row, row + 1)
        scores, sums = scores_and_sums(q[one], keys, values, weights[one].contiguous(), first, 120)
        assert torch.equal(scores, together[0][one, first:])
        assert torch.equal(sums, together[1][one])
