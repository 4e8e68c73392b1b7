"""Attention on matrix tiles against plain attention over the same bfloat16 numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from core.attention import tiled
from core.compiled import tiles
from core.compiled.tiles import SIDE

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not tiles.available(), reason="this processor has no matrix tiles (AMX)"),
]


def inputs(heads: int, kv_heads: int, size: int, slots: int, spare: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Queries [H, slots, D], and keys and values [G, slots, D] in buffers with NaN behind them."""
    generator = torch.Generator().manual_seed(slots + size)
    queries = 3 * torch.randn(heads, slots, size, generator=generator)
    buffers = torch.full((2, kv_heads, slots + spare, size), torch.nan)
    buffers[:, :, :slots] = torch.randn(2, kv_heads, slots, size, generator=generator)
    keys, values = buffers.bfloat16()[:, :, :slots]
    return queries.bfloat16(), keys, values


def padded(queries: Tensor) -> Tensor:
    rows = -(-queries.shape[1] // SIDE) * SIDE
    wide = torch.full((len(queries), rows, queries.shape[2]), torch.nan, dtype=queries.dtype)
    wide[:, : queries.shape[1]] = queries
    return wide


def plain(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """[T, H, D] in float32."""
    rows, slots = queries.shape[1], keys.shape[1]
    keys, values = (part.float().repeat_interleave(len(queries) // len(part), 0) for part in (keys, values))
    hidden = torch.ones(rows, slots, dtype=torch.bool).triu(slots - rows + 1)
    weights = (scale * queries.float() @ keys.transpose(1, 2)).masked_fill(hidden, -torch.inf).softmax(-1)
    return (weights @ values).transpose(0, 1)


@pytest.mark.parametrize("size", [32, 64, 96, 128])
@pytest.mark.parametrize("past", [0, 1, 57, 300])
@pytest.mark.parametrize("rows", [1, 31, 32, 100, 289])
def test_that_attention_equals_the_plain_one(rows: int, past: int, size: int) -> None:
    """To what rounding weights and results to bfloat16 costs."""
    queries, keys, values = inputs(6, 2, size, past + rows)
    queries = queries[:, past:]
    found = tiled.attend(padded(queries), keys, values, rows, size**-0.5)[:rows].float()
    expected = plain(queries, keys, values, size**-0.5)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 2**-7 * values.float().abs().max()


def test_that_a_query_is_the_same_whatever_rows_are_with_it() -> None:
    queries, keys, values = inputs(3, 1, 64, 700)
    together = tiled.attend(padded(queries), keys, values, 700, 0.125)
    for first, last in ((0, 65), (65, 300), (300, 301), (301, 700)):
        part = tiled.attend(padded(queries[:, first:last]), keys[:, :last], values[:, :last], last - first, 0.125)
        assert torch.equal(part[: last - first], together[first:last])


def test_that_very_different_scores_lose_nothing() -> None:
    """The highest score of a query comes in its last block, or in its first."""
    queries, keys, values = inputs(1, 1, 64, 600)
    for place in (3, 520):
        strong = keys.clone()
        strong[0, place] = 40 * queries[0, -1]
        found = tiled.attend(padded(queries[:, -1:]), strong, values, 1, 0.125)[:1].float()
        assert (found - plain(queries[:, -1:], strong, values, 0.125)).abs().max() < 0.02


def test_that_scores_that_rise_within_a_pass_change_no_other_query() -> None:
    """Some queries meet a far higher score late, again and again; each comes out the same alone, and right."""
    queries, keys, values = inputs(2, 1, 64, 460)
    for place, factor in ((40, 20), (70, 60), (71, 90), (290, 160), (400, 300)):
        keys[0, place] = factor * queries[0, 448]
    scale = 0.25
    together = tiled.attend(padded(queries), keys, values, 460, scale)
    assert (together[:460].float() - plain(queries, keys, values, scale)).abs().max() <= 2**-7 * values.float().abs().max()
    for first, last in ((0, 33), (33, 449), (449, 460)):
        part = tiled.attend(padded(queries[:, first:last]), keys[:, :last], values[:, :last], last - first, scale)
        assert torch.equal(part[: last - first], together[first:last])


def test_what_fits() -> None:
    bfloat = torch.zeros(1, 8, 64, dtype=torch.bfloat16)
    assert tiled.fits(bfloat, bfloat)
    assert not tiled.fits(bfloat, bfloat.float())
    assert not tiled.fits(bfloat[:, :, :48], bfloat[:, :, :48])
