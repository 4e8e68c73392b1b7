"""Activations as 16-bit integers with a scale for each group of columns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch

from core.compiled.emitter import F32, I16, I32, Emitter, Value, constant, number
from core.compiled.jit import callable_at
from core.compiled.numbers import of_lanes, read
from core.weights.kernel import LARGEST

QUANTIZER_ARGUMENTS = 7
_SMALLEST = 1e-30  # of a group's largest magnitude: no scale is a denormal


@dataclass(frozen=True)
class Quantized:
    """Rows as products take them: values int16 [T, K], scales float32, sums int32 and shares float32 [T, groups]."""

    values: np.ndarray
    scales: np.ndarray
    sums: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, groups: int) -> Quantized:
        """x float32 [T, K] in `groups` equal groups of columns."""
        scales, shares = np.empty((2, len(x), groups), np.float32)
        made = cls(np.empty(x.shape, np.int16), scales, np.empty((len(x), groups), np.int32), shares)
        call = callable_at(quantizer(), QUANTIZER_ARGUMENTS)
        call(x.ctypes.data, *made.addresses(0), len(x) * groups, x.shape[1] // groups)
        return made

    def addresses(self, first: int) -> tuple[int, ...]:
        """Of what belongs to row `first` and those after it."""
        return tuple(start + first * row for start, row in self._rows)

    @cached_property
    def _rows(self) -> tuple[tuple[int, int], ...]:
        """Of each array: the address of its first row, and the bytes of one."""
        return tuple((part.ctypes.data, part.strides[0]) for part in (self.values, self.scales, self.sums, self.shares))


@cache
def quantizer() -> int:
    """The address of the compiled rounding of rows to 16 bits.

    Called with addresses: x float32 [rows, groups · width], q int16 of that shape, scales float32, sums int32 and shares
    float32 (scale · sum) [rows, groups]; then rows · groups and width.
    """
    e = Emitter("quantize16", "x q scales sums shares count width")

    def group(index: Value, _: list[Value]) -> list[Value]:
        x = e.at(e.x, e.b.mul(index, e.width), 4)
        q = e.at(e.q, e.b.mul(index, e.width), 2)
        largest = _largest(e, x)
        scale = e.b.fdiv(largest, constant(F32, LARGEST))
        inverse = e.b.fdiv(constant(F32, LARGEST), largest)
        e.store(scale, e.at(e.scales, index, 4))
        total = _rounded(e, x, q, inverse)
        e.store(total, e.at(e.sums, index, 4))
        e.store(e.b.fmul(scale, e.b.sitofp(total, F32)), e.at(e.shares, index, 4))
        return []

    e.loop(number(0), e.count, [], group)
    return e.finish()


def _largest(e: Emitter, x: Value) -> Value:
    """The largest magnitude of a group."""

    def columns(i: Value, carried: list[Value], lanes: int) -> list[Value]:
        return [e.highest(e.unary("fabs", read(e, e.at(x, i, 4), torch.float32, lanes)), carried[0])]

    return e.sweep(number(0), e.width, [constant(F32, _SMALLEST)], columns, e.highest)[0]


def _rounded(e: Emitter, x: Value, q: Value, inverse: Value) -> Value:
    """Write a group as integers; returns their sum."""

    def columns(i: Value, carried: list[Value], lanes: int) -> list[Value]:
        factor = e.spread(inverse) if lanes > 1 else inverse
        near = e.unary("rint", e.b.fmul(read(e, e.at(x, i, 4), torch.float32, lanes), factor))
        whole = e.b.fptosi(near, of_lanes(I32, lanes))
        e.store(e.b.trunc(whole, of_lanes(I16, lanes)), e.at(q, i, 2), 2)
        return [e.b.add(carried[0], whole)]

    return e.sweep(number(0), e.width, [constant(I32, 0)], columns, e.b.add)[0]
