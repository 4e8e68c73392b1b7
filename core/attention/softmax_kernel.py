"""Softmax over a chunk of a row of scores of which two runs are visible, for the compiled step."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import inf

from core.attention.kernel import LOWEST
from core.compiled.arithmetic import exp, tanh
from core.compiled.emitter import F32, LANES, VF32, Emitter, Join, Value, constant, number

STEP = 2 * LANES  # scores taken at a time: two vectors, of which neither waits for the other


@cache
def softmax_kernel(capped: bool) -> int:
    """The address of the compiled softmax, in place.

    Called with: the address of scores float32, the end of the first visible run, which begins at 0, the begin and end of the
    second, the end of the row, the bits of two float32: what scores are multiplied by, and the soft cap that follows where
    `capped`; and the address of the chunk's peak, its highest score, and of its total, the sum of e^(score − peak), which
    replaces each score. What is not visible becomes 0, and so does what follows up to a multiple of `STEP`. A score is added
    up at its place, whatever else is visible.
    """
    e = Emitter(f"softmax_{capped:d}", "scores sunk begin end stop scale_bits cap_bits stats")
    scale, stop = e.float_argument(e.scale_bits), e.b.and_(e.b.add(e.stop, number(STEP - 1)), number(-STEP))
    if capped:
        _cap(e, stop, scale)
        scale = constant(F32, 1.0)
    _fill(e, stop, -inf)
    highest = _over(e, stop, LOWEST, lambda _, x, most: e.highest(x, most), e.highest)
    peak = e.b.fmul(highest, scale)
    wide, shift = e.spread(scale), e.spread(e.b.fneg(peak))

    def weigh(at: Value, x: Value, total: Value) -> Value:
        weight = exp(e, e.fma(x, wide, shift))
        e.store(weight, at)
        return e.b.fadd(total, weight)

    total = _over(e, stop, 0.0, weigh, e.b.fadd)
    _fill(e, stop, 0.0)
    e.store(peak, e.stats)
    e.store(total, e.at(e.stats, 1, 4))
    return e.finish()


def _cap(e: Emitter, stop: Value, scale: Value) -> None:
    """Scale the scores and cap them."""
    wide, cap = e.spread(scale), e.spread(e.float_argument(e.cap_bits))

    def places(i: Value, _: list[Value]) -> list[Value]:
        at = e.at(e.scores, i, 4)
        x = e.b.fmul(e.load(at, VF32, 4), wide)
        e.store(e.b.fmul(tanh(e, e.b.fdiv(x, cap)), cap), at)
        return []

    e.loop(number(0), stop, [], places, step=LANES)


def _fill(e: Emitter, stop: Value, value: float) -> None:
    """Put `value` where nothing is visible."""

    def place(i: Value, _: list[Value]) -> list[Value]:
        e.store(constant(F32, value), e.at(e.scores, i, 4))
        return []

    for run in ((e.sunk, e.begin), (e.end, stop)):
        e.loop(*run, [], place)


def _over(e: Emitter, stop: Value, start: float, change: Callable[[Value, Value, Value], Value], join: Join) -> Value:
    """carried = change(address, scores, carried) for every two vectors of scores, each by itself; returns all joined."""

    def pair(i: Value, carried: list[Value]) -> list[Value]:
        places = [e.at(e.scores, i, 4, 4 * LANES * half) for half in range(2)]
        return [change(at, e.load(at, VF32, 4), each) for at, each in zip(places, carried, strict=True)]

    return e.joined(join(*e.loop(number(0), stop, [constant(VF32, start)] * 2, pair, step=STEP)), join)
