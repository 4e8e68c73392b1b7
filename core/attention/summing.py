"""Weighted sums of values at slots that each query has chosen, compiled: nothing is gathered first."""

from __future__ import annotations

from functools import cache
from math import gcd

import torch
from torch import Tensor

from core.compiled.crew import crew
from core.compiled.emitter import F32, I64, LANES, Emitter, Value, constant, number
from core.compiled.jit import callable_at
from core.compiled.numbers import of_lanes, read

_ARGUMENTS = "values head shared weights slots best sums first last"
_TOGETHER = 8  # vectors of sums


def summed(weights: Tensor, slots: Tensor, values: Tensor) -> Tensor:
    """Sums [G, J, D] float32 of values [G, S, D] at slots int64 [G, J, n], with weights float32 [G, J, n]."""
    (G, J, best), size = slots.shape, values.shape[2]
    if values.stride()[1:] != (size, 1):
        values = values.contiguous()
    sums, weights, slots = torch.empty(G, J, size), weights.contiguous(), slots.contiguous()
    head = values.stride(0) * values.itemsize
    arguments = values.data_ptr(), head, J, weights.data_ptr(), slots.data_ptr(), best, sums.data_ptr()
    add = callable_at(_kernel(size, values.dtype), len(_ARGUMENTS.split()))
    crew(torch.get_num_threads()).share(G * J, lambda *part: add(*arguments, *part))
    return sums


@cache
def _kernel(size: int, dtype: torch.dtype) -> int:
    """The address of the compiled sums.

    Called with: the address of values [slots, D] of the first KV head, the bytes to those of the next, and the queries of a
    head; addresses of weights float32 and slots int64 [queries, best]; best; the address of sums float32 [queries, D]; the
    first and last query.
    """
    e, lanes = Emitter(f"summed_{size}_{dtype}".replace(".", "_"), _ARGUMENTS), gcd(size, LANES)

    def query(i: Value, _: list[Value]) -> list[Value]:
        values = e.b.add(e.values, e.b.mul(e.b.udiv(i, e.shared), e.head))
        for begin in range(0, size, _TOGETHER * lanes):
            _columns(e, i, values, size, dtype, range(begin, min(size, begin + _TOGETHER * lanes), lanes))
        return []

    e.loop(e.first, e.last, [], query)
    return e.finish()


def _columns(e: Emitter, query: Value, values: Value, size: int, dtype: torch.dtype, columns: range) -> None:
    kind = of_lanes(F32, columns.step)

    def one(i: Value, sums: list[Value]) -> list[Value]:
        place = e.b.add(e.b.mul(query, e.best), i)
        row = e.at(values, e.load(e.at(e.slots, place, 8), I64, 8), size * dtype.itemsize)
        weight = e.load(e.at(e.weights, place, 4), F32, 4)
        wide = weight if columns.step == 1 else e.spread(weight, columns.step)
        found = (read(e, e.at(row, column, dtype.itemsize), dtype, columns.step) for column in columns)
        return [e.fma(wide, value, total) for value, total in zip(found, sums, strict=True)]

    sums = e.loop(number(0), e.best, [constant(kind, 0.0)] * len(columns), one)
    for column, total in zip(columns, sums, strict=True):
        e.store(total, e.at(e.sums, query, 4 * size, 4 * column))
