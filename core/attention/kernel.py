"""Attention of a few query rows over cached keys and values, for the compiled step.

All query heads that share a KV head are computed together, so that its keys and values are read once. Each score and each
output number is a sum in one fixed order, whatever rows are computed with it and however slots are divided among threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import gcd

import torch
from llvmlite import ir

from core.compiled.emitter import F32, I32, LANES, Emitter, Value, constant, number, vector
from core.compiled.numbers import read

PREFETCHED = 16384  # bytes ahead: what the processor fetches by itself ends with each page
TOGETHER = 4  # slots whose scores are computed at once
CHUNK = 256  # slots whose values are summed together, before the sums of chunks are
_SCORE_QUERIES = 4  # queries that share the keys that are read
_SUMS = 16  # float vectors summed side by side


@cache
def scores_kernel(head_size: int, dtype: torch.dtype) -> int:
    """The address of the compiled products of queries with keys.

    Called with: the address of keys [slots, D], the address of queries float32 [queries, D] and their number, the address
    of scores float32 and the distance between its rows, the first and last slot, and the place of slot 0 in a row of
    scores. Slots are taken four at a time: up to three numbers after the last score are overwritten.
    """
    e = Emitter(f"scores_{head_size}_{dtype}".replace(".", "_"), "keys queries count scores stride first last origin")
    return _tiles(e, _SCORE_QUERIES, lambda e, queries, at: _scores(e, head_size, dtype, queries, at)).finish()


@cache
def mix_kernel(head_size: int, dtype: torch.dtype) -> int:
    """The address of the compiled weighted sums of values.

    Called with: the address of values [slots, D], the address of weights float32 [queries, stride], the number of queries,
    the distance between rows of weights, the address of sums float32 [queries, D], the first and last slot, and the place
    of slot 0 in a row of weights. Sums are added to.
    """
    e = Emitter(f"mix_{head_size}_{dtype}".replace(".", "_"), "values weights count stride sums first last origin")
    most = max(1, _SUMS * LANES // head_size)
    return _tiles(e, most, lambda e, queries, at: _mix(e, head_size, dtype, queries, at)).finish()


def _tiles(e: Emitter, most: int, emit: Callable[[Emitter, int, Value], None]) -> Emitter:
    """Emit `emit(e, queries, first)` for runs of `most` queries, and then for what is left."""
    whole = e.b.mul(e.b.sdiv(e.count, number(most)), number(most))

    def tile(first: Value, _: list[Value]) -> list[Value]:
        emit(e, most, first)
        return []

    e.loop(number(0), whole, [], tile, step=most)
    e.cases(e.b.sub(e.count, whole), range(1, most), lambda queries: emit(e, queries, whole))
    return e


def _scores(e: Emitter, size: int, dtype: torch.dtype, queries: int, first: Value) -> None:
    b, lanes = e.b, gcd(size, LANES)
    q = [e.at(e.queries, b.add(first, number(i)), 4 * size) for i in range(queries)]
    rows = [e.at(e.scores, b.mul(b.add(first, number(i)), e.stride), 4) for i in range(queries)]
    last_slot = b.sub(e.last, number(1))

    def slots(slot: Value, _: list[Value]) -> list[Value]:
        near = [b.add(slot, number(i)) for i in range(TOGETHER)]
        # Slots after the last one are computed as the last one, whose place in memory is certain.
        keys = [e.at(e.keys, b.select(b.icmp_signed("<", s, e.last), s, last_slot), size * dtype.itemsize) for s in near]
        for line in range(0, TOGETHER * size * dtype.itemsize, 64):
            e.prefetch(b.add(keys[0], number(line + PREFETCHED)), near=False)
        sums = [[constant(vector(F32, lanes), 0.0)] * TOGETHER for _ in range(queries)]
        for column in range(0, size, lanes):
            widened = [read(e, e.at(key, column, dtype.itemsize), dtype, lanes) for key in keys]
            for i in range(queries):
                query = e.load(e.at(q[i], column, 4), vector(F32, lanes), 4)
                sums[i] = [e.fma(query, key, total) for key, total in zip(widened, sums[i], strict=True)]
        for i in range(queries):
            e.store(_four_sums(e, sums[i], lanes), e.at(rows[i], b.add(slot, e.origin), 4))
        return []

    e.loop(e.first, e.last, [], slots, step=TOGETHER)


def _mix(e: Emitter, size: int, dtype: torch.dtype, queries: int, first: Value) -> None:
    b, lanes = e.b, gcd(size, LANES)
    parts = range(0, size, lanes)
    weights = [e.at(e.weights, b.mul(b.add(first, number(i)), e.stride), 4) for i in range(queries)]
    rows = [e.at(e.sums, b.mul(b.add(first, number(i)), number(size)), 4) for i in range(queries)]
    outs = [e.at(row, part, 4) for row in rows for part in parts]

    def slot(s: Value, sums: list[Value]) -> list[Value]:
        row = e.at(e.values, b.mul(s, number(size)), dtype.itemsize)
        for line in range(0, size * dtype.itemsize, 64):
            e.prefetch(b.add(row, number(line + PREFETCHED)), near=False)
        values = [read(e, e.at(row, part, dtype.itemsize), dtype, lanes) for part in parts]
        spread = [e.spread(e.load(e.at(w, b.add(s, e.origin), 4), F32, 4), lanes) for w in weights]
        pairs = [(weight, value) for weight in spread for value in values]
        return [e.fma(weight, value, total) for (weight, value), total in zip(pairs, sums, strict=True)]

    start = [e.load(out, vector(F32, lanes), 4) for out in outs]
    for out, total in zip(outs, e.loop(e.first, e.last, start, slot), strict=True):
        e.store(total, out)


def _four_sums(e: Emitter, values: list[Value], lanes: int) -> Value:
    """The sums over the lanes of four vectors, as one vector of four: halves are added to halves."""
    while lanes > 1:
        pairs = [(v, v) for v in values] if len(values) == 1 else list(zip(values[::2], values[1::2], strict=True))
        values = [_halves(e, a, b, lanes, alone=len(values) == 1) for a, b in pairs]
        lanes //= 2
    while len(values) > 1:
        values = [_picked(e, a, b, range(2 * a.type.count)) for a, b in zip(values[::2], values[1::2], strict=True)]
    return values[0]


def _halves(e: Emitter, a: Value, b: Value, lanes: int, alone: bool) -> Value:
    """The first half of every run of `lanes` lanes in a (and b) plus the second half."""
    runs = range(0, a.type.count * (1 if alone else 2), lanes)
    firsts, seconds = ([run + start + i for run in runs for i in range(lanes // 2)] for start in (0, lanes // 2))
    return e.b.fadd(_picked(e, a, b, firsts), _picked(e, a, b, seconds))


def _picked(e: Emitter, a: Value, b: Value, lanes: Sequence[int]) -> Value:
    return e.b.shuffle_vector(a, b, ir.Constant(vector(I32, len(lanes)), list(lanes)))
