"""The sums behind the softmax of a row of logits, compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch

from core.compiled.arithmetic import exp
from core.compiled.emitter import F32, Emitter, Value, constant, number
from core.compiled.jit import callable_at
from core.compiled.numbers import read

_TOGETHER = 1024  # logits whose sums are kept by themselves, so that rounding hardly grows with their number
_WIDE = 64  # lanes: several vectors side by side, none of which waits for another
_IMPOSSIBLE = -87.0  # e to this is under 2e-38


def softmax_sums(logits: np.ndarray) -> tuple[float, float, float]:
    """Of logits x [V]: the highest, h; the sum of e^(x − h); and the sum of (x − h) · e^(x − h).

    A logit of minus infinity adds nothing.
    """
    logits, sums = np.ascontiguousarray(logits, np.float32), np.empty(3, np.float32)
    _kernel()(logits.ctypes.data, len(logits), sums.ctypes.data)
    peak, total, weighted = sums.tolist()
    return peak, total, weighted


@cache
def _kernel() -> Callable[..., None]:
    e = Emitter("softmax_sums", "logits count sums")
    lowest = constant(F32, -np.finfo(np.float32).max.item())
    peak = e.sweep(
        number(0), e.count, [lowest], lambda i, found, lanes: [e.highest(_at(e, i, lanes), found[0])], e.highest, _WIDE
    )[0]
    zeros = [constant(F32, 0.0)] * 2
    parts = e.loop(number(0), e.count, zeros, lambda first, sums: _add_part(e, first, peak, sums), step=_TOGETHER)
    for place, value in enumerate((peak, *parts)):
        e.store(value, e.at(e.sums, place, 4))
    return callable_at(e.finish(), 3)


def _at(e: Emitter, i: Value, lanes: int) -> Value:
    return read(e, e.at(e.logits, i, 4), torch.float32, lanes)


def _add_part(e: Emitter, first: Value, peak: Value, sums: list[Value]) -> list[Value]:
    """The two sums with the logits from `first` on."""
    last = e.least(e.b.add(first, number(_TOGETHER)), e.count)

    def add(i: Value, carried: list[Value], lanes: int) -> list[Value]:
        x = _at(e, i, lanes)
        below = e.highest(e.b.fsub(x, peak if lanes == 1 else e.spread(peak, lanes)), constant(x.type, _IMPOSSIBLE))
        share = exp(e, below)
        return [e.b.fadd(carried[0], share), e.fma(share, below, carried[1])]

    part = e.sweep(first, last, [constant(F32, 0.0)] * 2, add, e.b.fadd, _WIDE)
    return [e.b.fadd(one, other) for one, other in zip(sums, part, strict=True)]
