"""Softmax over a chunk of a row of scores of which two runs are visible, for the compiled step."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

from core.attention.kernel import LOWEST
from core.compiled.arithmetic import exp, tanh
from core.compiled.emitter import F32, Emitter, Join, Value, constant, number
from core.compiled.numbers import read


@cache
def softmax_kernel(capped: bool) -> int:
    """The address of the compiled softmax, in place.

    Called with: the address of scores float32, the end of the first visible run, which begins at 0, the begin and end of the
    second, the end of the row, the bits of two float32: what scores are multiplied by, and the soft cap that follows where
    `capped`; and the address of the chunk's peak, its highest score, and of its total, the sum of e^(score − peak), which
    replaces each score. What is not visible becomes 0. Each run is summed by itself, in an order that depends on its length.
    """
    e = Emitter(f"softmax_{capped:d}", "scores sunk begin end stop scale_bits cap_bits stats")
    scale, cap = e.float_argument(e.scale_bits), e.float_argument(e.cap_bits)
    runs = ((number(0), e.sunk), (e.begin, e.end))

    def scaled(x: Value) -> Value:
        x = e.b.fmul(x, _like(e, scale, x))
        return e.b.fmul(tanh(e, e.b.fdiv(x, _like(e, cap, x))), _like(e, cap, x)) if capped else x

    highest = constant(F32, LOWEST)
    for run in runs:
        highest = _over(e, run, highest, scaled, e.highest)
    total = constant(F32, 0.0)
    for run in runs:
        alone = _over(e, run, constant(F32, 0.0), lambda x: exp(e, e.b.fsub(x, _like(e, highest, x))), e.b.fadd)
        total = e.b.fadd(total, alone)
    e.store(highest, e.stats)
    e.store(total, e.at(e.stats, 1, 4))
    for run in ((e.sunk, e.begin), (e.end, e.stop)):
        e.loop(*run, [], lambda i, _: _clear(e, i))
    return e.finish()


def _clear(e: Emitter, i: Value) -> list[Value]:
    e.store(constant(F32, 0.0), e.at(e.scores, i, 4))
    return []


def _like(e: Emitter, scalar: Value, x: Value) -> Value:
    return scalar if x.type is F32 else e.spread(scalar)


def _over(e: Emitter, run: tuple[Value, Value], start: Value, change: Callable[[Value], Value], join: Join) -> Value:
    """Replace each score of a run by change(score), sixteen at a time and then one by one; returns them joined."""

    def places(i: Value, carried: list[Value], lanes: int) -> list[Value]:
        address = e.at(e.scores, i, 4)
        value = change(read(e, address, torch.float32, lanes))
        e.store(value, address)
        return [join(carried[0], value)]

    return e.sweep(*run, [start], places, join)[0]
