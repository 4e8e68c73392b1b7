"""Cached values laid out as tiles, for attention on the processor's matrix tiles."""

from __future__ import annotations

from functools import cache

from core.compiled.emitter import I16, LANES, VI32, Emitter, Value, constant, number, vector
from core.compiled.tiles import LINE, SIDE, transposed

_NAMES = "keys values count capacity last_keys laid runs first last"
LAY_ARGUMENTS = len(_NAMES.split())


@cache
def lay_kernel(size: int) -> int:
    """The address of the compiled layout of values [G, capacity, D] as tiles [G, runs, D, SIDE] whose columns are slots.

    Called with addresses of keys and values, their count and capacity, addresses of a copy [G, SIDE, D] of the keys of each
    head's last run, and of the tiles; runs a head, and the first and last run of all. After the last slot values are 0.
    """
    e = Emitter(f"lay_{size}", _NAMES)

    def run(index: Value, _: list[Value]) -> list[Value]:
        head, at = e.b.udiv(index, e.runs), e.b.urem(index, e.runs)
        base, slot = e.b.mul(head, e.capacity), e.b.mul(at, number(SIDE))
        slots = [_slot(e, e.b.add(slot, number(i))) for i in range(SIDE)]
        rows = [(e.at(e.values, e.b.add(base, place), 2 * size), valid) for place, valid in slots]
        _lay_values(e, size, rows, e.at(e.laid, index, 2 * SIDE * size))
        with e.b.if_then(e.b.icmp_signed("==", e.b.add(at, number(1)), e.runs)):
            copy = e.at(e.last_keys, head, 2 * SIDE * size)
            for i, (place, _) in enumerate(slots):
                _copy_row(e, size, e.at(e.keys, e.b.add(base, place), 2 * size), e.b.add(copy, number(2 * size * i)))
        return []

    e.loop(e.first, e.last, [], run)
    return e.finish()


def _slot(e: Emitter, slot: Value) -> tuple[Value, Value]:
    """A slot that is certainly there, and whether it is the one asked for."""
    valid = e.b.icmp_signed("<", slot, e.count)
    return e.b.select(valid, slot, e.b.sub(e.count, number(1))), valid


def _lay_values(e: Emitter, size: int, rows: list[tuple[Value, Value]], target: Value) -> None:
    for first in range(0, size, LANES):
        lines = [e.b.select(valid, _widened(e, row, first), constant(VI32, 0)) for row, valid in rows]
        words = [e.b.or_(even, e.b.shl(odd, constant(VI32, 16))) for even, odd in zip(lines[::2], lines[1::2], strict=True)]
        for index, line in enumerate(transposed(e, words)):
            e.store(line, e.b.add(target, number(LINE * (first + index))), LINE)


def _widened(e: Emitter, row: Value, first: int) -> Value:
    return e.b.zext(e.load(e.b.add(row, number(2 * first)), vector(I16), 2), VI32)


def _copy_row(e: Emitter, size: int, source: Value, target: Value) -> None:
    for place in range(0, 2 * size, LINE):
        e.store(e.load(e.b.add(source, number(place)), VI32, 2), e.b.add(target, number(place)))
