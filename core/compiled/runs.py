"""Runs of up to sixteen numbers in vectors, and loops over runs of which the last may be short."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from core.compiled.emitter import I32, LANES, Emitter, Value, constant, number, vector

Body = Callable[[Value, int], None]


def runs(e: Emitter, count: int, length: int, body: Body) -> None:
    """body(first, many) for whole runs of `length` of `count` things, and for the rest."""
    whole = count // length * length

    def each(first: Value, _: list[Value]) -> list[Value]:
        body(first, length)
        return []

    if whole:
        e.loop(number(0), number(whole), [], each, step=length)
    if count > whole:
        body(number(whole), count - whole)


def widened(e: Emitter, value: Value, lanes: int) -> Value:
    """A vector of sixteen that begins with so many numbers; what follows repeats the first."""
    if lanes == LANES:
        return value
    if lanes == 1:
        return e.spread(value)
    return e.picked(value, value, [*range(lanes), *[0] * (LANES - lanes)])


def first_lanes(e: Emitter, value: Value, lanes: int) -> Value:
    """The first numbers of a vector of sixteen; a scalar of one."""
    return e.b.extract_element(value, ir.Constant(I32, 0)) if lanes == 1 else e.part(value, 0, lanes)


def only_first(e: Emitter, value: Value, lanes: int) -> Value:
    """A vector of sixteen with 0 in all but its first lanes."""
    return value if lanes == LANES else e.b.select(_mask(range(lanes)), value, constant(value.type, 0))


def mixed(e: Emitter, parts: list[tuple[range, Value]]) -> Value:
    """A vector that takes each part's lanes from it, and all others from the first."""
    value = parts[0][1]
    for lanes, other in parts[1:]:
        value = e.b.select(_mask(lanes), other, value)
    return value


def _mask(lanes: range) -> Any:
    return ir.Constant(vector(ir.IntType(1)), [lane in lanes for lane in range(LANES)])
