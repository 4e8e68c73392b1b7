"""Attention of a few query rows over cached keys and values, for the compiled step.

Slots of a cache are taken in chunks, so that the values of a chunk are weighed while its scores are at hand; `join_kernel`
adds the chunks up. All query heads that share a KV head are computed together, so that its keys and values are read once.
Each score and each output number is a sum in one fixed order, whatever rows are computed with it and however chunks are
divided among threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import gcd

import torch

from core.compiled.arithmetic import exp
from core.compiled.emitter import F32, I64, Emitter, Value, constant, number, vector
from core.compiled.jit import register_lanes
from core.compiled.numbers import read_two, split_like, store_two

CHUNK = 128  # slots
TOGETHER = 4  # slots whose scores are computed at once
_GATHERED = 12  # rows that are on their way
LOWEST = -3.0e38  # the peak of a row that sees nothing
_PREFETCHED = 16384  # bytes ahead: what the processor fetches by itself ends with each page


@cache
def scores_kernel(head_size: int, dtype: torch.dtype) -> int:
    """The address of the compiled products of queries with keys.

    Called with: the address of keys [slots, D], the address of queries float32 [queries, D] and their number, the address
    of scores float32 and the distance between its rows, the first and last slot. Slots are taken four at a time: up to three
    numbers after the last score are overwritten.
    """
    e = Emitter(f"scores_{head_size}_{dtype}".replace(".", "_"), "keys queries count scores stride first last")
    return tiles(e, _sums() // TOGETHER, lambda e, queries, at: _scores(e, head_size, dtype, queries, at)).finish()


@cache
def mix_kernel(head_size: int, dtype: torch.dtype) -> int:
    """The address of the compiled weighted sums of values.

    Called with: the address of values [slots, D], the address of weights float32 [queries, stride], the number of queries,
    the distance between rows of weights, the address of sums float32 [queries, D], the first and last slot. Sums are added
    to.
    """
    e = Emitter(f"mix_{head_size}_{dtype}".replace(".", "_"), "values weights count stride sums first last")
    return tiles(e, _sums() // TOGETHER, lambda e, queries, at: _mix(e, head_size, dtype, queries, at)).finish()


@cache
def gather_kernel(nbytes: int) -> int:
    """The address of a compiled copy of rows of so many bytes, a multiple of eight.

    Called with: the address of rows, of the slots int64 of those to copy and their number, and of where they go, one after the
    other. Rows are asked for some time before: they lie anywhere.
    """
    e, width = Emitter(f"gather_{nbytes}", "rows slots count target"), gcd(nbytes, 64)
    last = e.b.sub(e.count, number(1))

    def row(i: Value, _: list[Value]) -> list[Value]:
        ahead, source = (e.at(e.rows, e.load(e.at(e.slots, slot, 8), I64, 8), nbytes) for slot in (
            e.least(e.b.add(i, number(_GATHERED)), last), i,
        ))  # fmt: skip
        for place in range(0, nbytes, 64):
            e.prefetch(e.b.add(ahead, number(place)))
        for place in range(0, nbytes, width):
            value = e.load(e.b.add(source, number(place)), vector(I64, width // 8), 2)
            e.store(value, e.at(e.target, i, nbytes, place), 2)
        return []

    e.loop(number(0), e.count, [], row)
    return e.finish()


@cache
def join_kernel(head_size: int) -> int:
    """The address of the compiled join of one row's chunks.

    Called with addresses: of the first chunk's sums [D], and the bytes from each to the next; of its peak and total (see
    softmax_kernel), and the bytes from each to the next; the number of chunks; the address of the attention [D].
    """
    e = Emitter(f"join_{head_size}", "sums sums_step stats stats_step count out")
    lanes = gcd(head_size, register_lanes())
    highest = e.loop(number(0), e.count, [constant(F32, LOWEST)], lambda i, carried: [e.highest(_stat(e, i, 0), carried[0])])[0]
    for begin in range(0, head_size, _sums() * lanes):
        _join(e, highest, range(begin, min(head_size, begin + _sums() * lanes), lanes), lanes)
    return e.finish()


def _sums() -> int:
    """Vectors summed side by side: what registers hold besides what is added to them."""
    return 16 if register_lanes() == 16 else 12


def _lanes(size: int) -> int:
    """Of vectors that come in pairs."""
    return gcd(size // 2, register_lanes())


def _stat(e: Emitter, chunk: Value, place: int) -> Value:
    return e.load(e.at(e.b.add(e.stats, e.b.mul(chunk, e.stats_step)), place, 4), F32, 4)


def _join(e: Emitter, highest: Value, columns: Sequence[int], lanes: int) -> None:
    def chunk(i: Value, carried: list[Value]) -> list[Value]:
        total, *sums = carried
        share = exp(e, e.b.fsub(_stat(e, i, 0), highest))
        row, wide = e.b.add(e.sums, e.b.mul(i, e.sums_step)), e.spread(share, lanes)
        values = [e.load(e.at(row, column, 4), vector(F32, lanes), 4) for column in columns]
        return [e.fma(share, _stat(e, i, 1), total), *(e.fma(wide, v, s) for v, s in zip(values, sums, strict=True))]

    zeros = [constant(F32, 0.0), *[constant(vector(F32, lanes), 0.0)] * len(columns)]
    total, *sums = e.loop(number(0), e.count, zeros, chunk)
    share = e.spread(e.b.fdiv(constant(F32, 1.0), total), lanes)
    for column, value in zip(columns, sums, strict=True):
        e.store(e.b.fmul(value, share), e.at(e.out, column, 4))


def tiles(e: Emitter, most: int, emit: Callable[[Emitter, int, Value], None]) -> Emitter:
    """Emit `emit(e, queries, first)` for runs of `most` queries, and then for what is left."""
    whole = e.b.mul(e.b.sdiv(e.count, number(most)), number(most))

    def tile(first: Value, _: list[Value]) -> list[Value]:
        emit(e, most, first)
        return []

    e.loop(number(0), whole, [], tile, step=most)
    e.cases(e.b.sub(e.count, whole), range(1, most), lambda queries: emit(e, queries, whole))
    return e


def _scores(e: Emitter, size: int, dtype: torch.dtype, queries: int, first: Value) -> None:
    b, lanes = e.b, _lanes(size)
    q = [e.at(e.queries, b.add(first, number(i)), 4 * size) for i in range(queries)]
    rows = [e.at(e.scores, b.mul(b.add(first, number(i)), e.stride), 4) for i in range(queries)]
    last_slot = b.sub(e.last, number(1))

    def slots(slot: Value, _: list[Value]) -> list[Value]:
        near = [b.add(slot, number(i)) for i in range(TOGETHER)]
        # Slots after the last one are computed as the last one, whose place in memory is certain.
        keys = [e.at(e.keys, e.least(s, last_slot), size * dtype.itemsize) for s in near]
        for line in range(0, TOGETHER * size * dtype.itemsize, 64):
            e.prefetch(b.add(keys[0], number(line + _PREFETCHED)), near=False)
        sums: list[list[Value]] = [[] for _ in range(queries)]
        for column in range(0, size, 2 * lanes):
            widened = [read_two(e, e.at(key, column, dtype.itemsize), dtype, lanes) for key in keys]
            for i in range(queries):
                for half, query in enumerate(split_like(e, e.at(q[i], column, 4), dtype, lanes)):
                    near = [key[half] for key in widened]
                    sums[i] = [e.fma(query, k, s) for k, s in zip(near, sums[i], strict=True)] if sums[i] else [
                        b.fmul(query, k) for k in near
                    ]  # fmt: skip
        for i in range(queries):
            e.store(_four_sums(e, sums[i], lanes), e.at(rows[i], slot, 4))
        return []

    e.loop(e.first, e.last, [], slots, step=TOGETHER)


def _mix(e: Emitter, size: int, dtype: torch.dtype, queries: int, first: Value) -> None:
    """As many columns at a time as there are registers for their sums."""
    lanes = _lanes(size)
    wide = _sums() // queries // 2 * 2 * lanes
    for begin in range(0, size, wide):
        _mix_columns(e, size, dtype, queries, first, range(begin, min(size, begin + wide), 2 * lanes))


def _mix_columns(e: Emitter, size: int, dtype: torch.dtype, queries: int, first: Value, columns: range) -> None:
    b, lanes = e.b, columns.step // 2
    weights = [e.at(e.weights, b.mul(b.add(first, number(i)), e.stride), 4) for i in range(queries)]
    rows = [e.at(e.sums, b.mul(b.add(first, number(i)), number(size)), 4) for i in range(queries)]
    outs = [e.at(row, column, 4) for row in rows for column in columns]

    def slot(s: Value, sums: list[Value]) -> list[Value]:
        row = e.at(e.values, b.mul(s, number(size)), dtype.itemsize)
        for line in range(0, 0 if columns.start else size * dtype.itemsize, 64):
            e.prefetch(b.add(row, number(line + _PREFETCHED)), near=False)
        pairs = [read_two(e, e.at(row, column, dtype.itemsize), dtype, lanes) for column in columns]
        spread = [e.spread(e.load(e.at(w, s, 4), F32, 4), lanes) for w in weights]
        products = [(weight, value) for weight in spread for pair in pairs for value in pair]
        return [e.fma(weight, value, total) for (weight, value), total in zip(products, sums, strict=True)]

    start = [half for out in outs for half in split_like(e, out, dtype, lanes)]
    sums = e.loop(e.first, e.last, start, slot)
    for place, out in enumerate(outs):
        store_two(e, sums[2 * place : 2 * place + 2], out, dtype)


def _four_sums(e: Emitter, values: list[Value], lanes: int) -> Value:
    """The sums over the lanes of four vectors, as one vector of four: halves are added to halves."""
    while lanes > 1:
        pairs = [(v, v) for v in values] if len(values) == 1 else list(zip(values[::2], values[1::2], strict=True))
        values = [_halves(e, a, b, lanes, alone=len(values) == 1) for a, b in pairs]
        lanes //= 2
    while len(values) > 1:
        values = [e.picked(a, b, range(2 * a.type.count)) for a, b in zip(values[::2], values[1::2], strict=True)]
    return values[0]


def _halves(e: Emitter, a: Value, b: Value, lanes: int, alone: bool) -> Value:
    """The first half of every run of `lanes` lanes in a (and b) plus the second half."""
    runs = range(0, a.type.count * (1 if alone else 2), lanes)
    firsts, seconds = ([run + start + i for run in runs for i in range(lanes // 2)] for start in (0, lanes // 2))
    return e.b.fadd(e.picked(a, b, firsts), e.picked(a, b, seconds))
