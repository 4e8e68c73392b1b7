"""Attention of a prompt over coded blocks and exact tokens side by side, against plain torch over the same cache."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from core.attention import tiled
from core.attention.mask import FULL
from core.attention.prompt import attend_sides
from core.attention.scores import visible
from core.attention.sides import Sides
from core.cache.base import KeyValues, Layout
from core.cache.coded import alone
from core.cache.quantized import Quantized
from core.cache.table import QuantizedOptions
from core.compiled import tiles
from core.compiled.tiles import SIDE

pytestmark = pytest.mark.usefixtures("one_thread")
OPTIONS = [
    (8, 32, 24, 4), (4, 32, 24, 4), (2, 16, 8, 0), (4, 16, 9, 140), (8, 64, 20, 3), (4, 128, 17, 1), (8, 16, 150, 2),
    (2, 16, 1, 0), (4, 32, 400, 4),
]  # fmt: skip
PASSES = [(611,), (300, 311), (70, 98, 67, 376), (5, 1, 300, 40, 265)]
TOKENS, HEADS, KV_HEADS = 611, 6, 2


def draws(size: int, dtype: torch.dtype) -> list[Tensor]:
    """q [H, T, D], k and v [G, T, D]."""
    random = torch.Generator().manual_seed(size)
    return [torch.randn(heads, TOKENS, size, generator=random).mul(2).to(dtype) for heads in (HEADS, KV_HEADS, KV_HEADS)]


def cache_of(options: tuple[int, int, int, int], size: int, dtype: torch.dtype) -> Quantized:
    return Quantized(QuantizedOptions(*options), Layout((KV_HEADS,), size, TOKENS, dtype))


def plain(options: tuple[int, int, int, int], parts: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
    """[T, H, D] float32."""
    (q, k, v), found = parts, []
    cache = cache_of(options, q.shape[2], q.dtype)
    for first, last in pairwise((0, *(sum(sizes[: n + 1]) for n in range(len(sizes))))):
        kv = cache.update(0, k[:, first:last].transpose(0, 1), v[:, first:last].transpose(0, 1))
        found.append(over(q[:, first:last].float(), kv, torch.arange(first, last)))
        cache.advance(last - first)
    return torch.cat(found)


def over(q: Tensor, kv: KeyValues, positions: Tensor) -> Tensor:
    keys, values = (part.float().repeat_interleave(HEADS // KV_HEADS, 0) for part in (kv.keys, kv.values))
    scores = (q @ keys.mT * q.shape[2] ** -0.5).masked_fill(~visible(FULL, positions, kv), -torch.inf)
    return (scores.softmax(-1) @ values).transpose(0, 1)


def side_by_side(options: tuple[int, int, int, int], parts: Sequence[Tensor], sizes: Sequence[int], on_tiles: bool) -> Tensor:
    """The same through `Sides`; passes that see no codes yet are left out, as numbers of 0."""
    (q, k, v), found, at = parts, [], 0
    cache = cache_of(options, q.shape[2], q.dtype)
    for rows in sizes:
        last = at + rows
        slots = cache.prompt_slots(rows, [FULL])
        assert slots is not None
        assert slots.coded is not None
        slots.buffers.write(0, slots.first, k[:, at:last].transpose(0, 1), v[:, at:last].transpose(0, 1))
        if slots.coded.seen[-1]:
            sides = Sides(slots, slots.coded, rows)
            found.append(attended(q[:, at:last], sides, on_tiles))
        else:
            found.append(torch.zeros(rows, HEADS, q.shape[2]))
        cache.advance(rows)
        at = last
    return torch.cat(found)


def attended(q: Tensor, sides: Sides, on_tiles: bool) -> Tensor:
    keys, values = sides.fill(0, alone)
    rows, scale = q.shape[1], q.shape[2] ** -0.5
    if not on_tiles:
        return attend_sides(q, keys, values, sides.edges, scale).float()
    padded = torch.full((HEADS, -(-rows // SIDE) * SIDE, q.shape[2]), torch.nan, dtype=q.dtype)
    padded[:, :rows] = q
    return tiled.attend(padded, keys, values, rows, scale, sides.edges)[:rows].float()


def difference(one: Tensor, other: Tensor) -> float:
    """The largest, of rows that were computed."""
    rows = one.flatten(1).any(1)
    assert rows.any()
    return float((one - other)[rows].abs().max())


@pytest.mark.parametrize("sizes", PASSES, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("size", [24, 64])
def test_that_attention_in_float32_equals_the_masked_one(
    size: int, options: tuple[int, int, int, int], sizes: tuple[int, ...]
) -> None:
    parts = draws(size, torch.float32)
    assert difference(side_by_side(options, parts, sizes, False), plain(options, parts, sizes)) < 1e-4


@pytest.mark.parametrize("on_tiles", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("size", [32, 64, 128])
def test_that_attention_in_bfloat16_equals_the_masked_one(
    size: int, options: tuple[int, int, int, int], on_tiles: bool
) -> None:
    """To what rounding weights, parts and results to bfloat16 costs."""
    if on_tiles and not tiles.available():
        pytest.skip("this processor has no matrix tiles (AMX)")
    parts = draws(size, torch.bfloat16)
    for sizes in PASSES:
        found = difference(side_by_side(options, parts, sizes, on_tiles), plain(options, parts, sizes))
        assert found <= 2**-6 * parts[2].float().abs().max()


@pytest.mark.skipif(not tiles.available(), reason="this processor has no matrix tiles (AMX)")
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_that_chunks_on_tiles_come_out_as_the_whole(options: tuple[int, int, int, int]) -> None:
    parts = draws(64, torch.bfloat16)
    whole = side_by_side(options, parts, PASSES[0], True)
    for sizes in PASSES[1:]:
        assert difference(side_by_side(options, parts, sizes, True), whole) <= 2**-7 * whole.abs().max()


def test_that_what_is_stored_is_what_plain_passes_store() -> None:
    """Records, exact tokens and bytes after a prompt in chunks."""
    parts, options = draws(64, torch.bfloat16), OPTIONS[1]
    plainly, quickly = (cache_of(options, 64, torch.bfloat16) for _ in range(2))
    _, k, v = parts
    for first, last in ((0, 200), (200, 611)):
        new = [part[:, first:last].transpose(0, 1) for part in (k, v)]
        plainly.update(0, *new)
        slots = quickly.prompt_slots(last - first, [FULL])
        assert slots is not None
        assert slots.coded is not None
        slots.buffers.write(0, slots.first, *new)
        Sides(slots, slots.coded, last - first).fill(0, alone)
        for cache in (plainly, quickly):
            cache.advance(last - first)
    assert plainly.nbytes == quickly.nbytes
    assert plainly.closed == quickly.closed == (611 - 4 - 24) // 32
    one, other = (cache.blocks.plain(0, cache.closed, torch.float32) for cache in (plainly, quickly))
    assert torch.equal(torch.stack(one), torch.stack(other))
    assert torch.equal(plainly.tail.keys[0][:, : 611 - 18 * 32], quickly.tail.keys[0][:, : 611 - 18 * 32])
