"""The highest of many scores, compiled: where they begin is found by halving, which takes no sorting."""

from __future__ import annotations

from functools import cache

import torch
from llvmlite import ir
from torch import Tensor

from core.compiled.crew import crew
from core.compiled.emitter import F32, I32, I64, LANES, VOID, Emitter, Join, Value, constant, lanes_of, number
from core.compiled.jit import callable_at
from core.compiled.numbers import read

_ARGUMENTS = "scores stride count best slots found found_stride first last"
_HALVINGS = 33  # what tells any two numbers of 32 bits apart
_TOGETHER = 4 * LANES
_SIGN = 0x7FFFFFFF  # bits by which numbers below 0 come in the order of their bits
_LOWEST = ~0x7F800000  # the place of −∞ in that order


def highest(scores: Tensor, best: int) -> tuple[Tensor, Tensor]:
    """Slots int64 [..., n] of the n = min(best, S) highest of scores float32 [..., S], in rising order, and their scores."""
    *rows, S = scores.shape
    best, count = min(best, S), scores.numel() // S
    slots, found = torch.empty(*rows, best, dtype=torch.int64), torch.empty(*rows, best)
    given = scores.contiguous()
    arguments = given.data_ptr(), S, S, best, slots.data_ptr(), found.data_ptr(), best
    choose = callable_at(highest_kernel(), len(_ARGUMENTS.split()))
    crew(torch.get_num_threads()).share(count, lambda *part: choose(*arguments, *part))
    return slots, found


@cache
def highest_kernel() -> int:
    """The address of the compiled choice.

    Called with: the address of scores float32 and the distance between its rows, how many scores of a row there are and how
    many to choose, which are not more; the address of slots int64 [rows, best]; the address of the chosen scores float32 and
    the distance between its rows, which may be those of all scores; the first and last row. Slots come in rising order. Of
    equal scores the first ones are chosen.
    """
    e = Emitter("highest", _ARGUMENTS)
    choice = _Choice(e)
    e.loop(e.first, e.last, [], lambda row, _: choice.of(row))
    return e.finish()


class _Choice:
    """The scores from `low` on are enough, those from `high` on, `above` of them, not too many: kept in memory, as places in
    the order of float32 numbers."""

    def __init__(self, e: Emitter) -> None:
        self.e, room = e, e.stack(3 * 8, 8)
        self.low, self.high, self.above = (e.b.add(room, number(8 * i)) for i in range(3))

    def of(self, row: Value) -> list[Value]:
        e, b = self.e, self.e.b
        scores = e.at(e.scores, b.mul(row, e.stride), 4)
        for value, address in (
            (number(_LOWEST), self.low), (b.add(self._peak(scores), number(1)), self.high), (number(0), self.above),
        ):  # fmt: skip
            e.store(value, address, 8)
        e.loop(number(0), number(_HALVINGS), [], lambda *_: self._halve(scores))
        self._put(scores, e.at(e.slots, b.mul(row, e.best), 8), e.at(e.found, b.mul(row, e.found_stride), 4))
        return []

    def _kept(self, address: Value) -> Value:
        return self.e.load(address, I64, 8)

    def _peak(self, scores: Value) -> Value:
        """The place of the highest score."""
        e = self.e
        bits = e.b.bitcast(self._over(scores, constant(F32, float("-inf")), e.highest, e.highest), I32)
        return e.b.sext(self._turned(bits), I64)

    def _over(self, scores: Value, start: Value, take: Join, join: Join) -> Value:
        """take(score, carried) of all scores, joined: of several vectors at a time, then of one, then of scalars."""
        e = self.e

        def taken(i: Value, carried: list[Value], lanes: int) -> list[Value]:
            return [take(read(e, e.at(scores, i, 4), torch.float32, lanes), carried[0])]

        whole = e.b.and_(e.count, number(-_TOGETHER))
        many = e.loop(number(0), whole, [e.spread(start, _TOGETHER)], lambda i, c: taken(i, c, _TOGETHER), step=_TOGETHER)
        return join(e.joined(many[0], join), e.sweep(whole, e.count, [start], taken, join)[0])

    def _turned(self, bits: Value) -> Value:
        """The place of a number by its bits, or its bits by its place."""
        b = self.e.b
        return b.xor(bits, b.and_(b.ashr(bits, ir.Constant(I32, 31)), ir.Constant(I32, _SIGN)))

    def _number(self, place: Value) -> Value:
        return self.e.b.bitcast(self._turned(self.e.b.trunc(place, I32)), F32)

    def _halve(self, scores: Value) -> list[Value]:
        """Move one of the two ends to the middle, and both where just as many scores as wanted are from there on."""
        e, b = self.e, self.e.b
        low, high = self._kept(self.low), self._kept(self.high)
        middle = b.ashr(b.add(low, high), number(1))
        with b.if_then(b.icmp_signed("<", low, middle)):
            count = self._from(scores, self._number(middle))
            enough, not_too_many = b.icmp_signed(">=", count, e.best), b.icmp_signed("<=", count, e.best)
            with b.if_then(enough):
                e.store(middle, self.low, 8)
            with b.if_then(not_too_many):
                e.store(middle, self.high, 8)
                e.store(count, self.above, 8)
        return []

    def _from(self, scores: Value, least: Value) -> Value:
        """How many scores there are from `least` on."""
        b = self.e.b

        def count(score: Value, carried: Value) -> Value:
            return b.add(carried, b.zext(self._hits(score, least), carried.type))

        return b.sext(self._over(scores, ir.Constant(I32, 0), count, b.add), I64)

    def _hits(self, score: Value, least: Value) -> Value:
        lanes = lanes_of(score)
        return self.e.b.fcmp_ordered(">=", score, least if lanes == 1 else self.e.spread(least, lanes))

    def _put(self, scores: Value, slots: Value, found: Value) -> None:
        """The slots and scores from `high` on, and the first of those between, as many as are wanted."""
        e, b = self.e, self.e.b
        low, high = (self._number(self._kept(place)) for place in (self.low, self.high))

        def some(i: Value, carried: list[Value], lanes: int) -> list[Value]:
            count, left = carried
            score = read(e, e.at(scores, i, 4), torch.float32, lanes)
            above = _bits(e, self._hits(score, high))
            between = self._first(b.xor(above, _bits(e, self._hits(score, low))), left)
            taken = b.or_(above, between)
            self._store(score, i, taken, e.at(slots, count, 8), e.at(found, count, 4))
            return [b.add(count, _ones(e, taken)), b.sub(left, _ones(e, between))]

        whole = b.and_(e.count, number(-LANES))
        start = [number(0), b.sub(e.best, self._kept(self.above))]
        carried = e.loop(number(0), whole, start, lambda i, carried: some(i, carried, LANES), step=LANES)
        e.loop(whole, e.count, carried, lambda i, carried: some(i, carried, 1))

    def _first(self, bits: Value, most: Value) -> Value:
        """The lowest ones of these bits, `most` at most."""
        e, b = self.e, self.e.b

        def without_last(_: Value, carried: list[Value]) -> list[Value]:
            after = e.call("llvm.ctlz.i64", I64, carried[0], ir.Constant(ir.IntType(1), 0))
            return [b.xor(carried[0], b.lshr(number(1 << 63), after))]

        return e.loop(most, _ones(e, bits), [bits], without_last)[0]

    def _store(self, score: Value, first: Value, taken: Value, slots: Value, found: Value) -> None:
        """The scores, and their slots from `first` on, that these bits say, one after the other."""
        e, b, lanes = self.e, self.e.b, lanes_of(score)
        if lanes == 1:
            with b.if_then(b.trunc(taken, ir.IntType(1))):
                e.store(first, slots, 8)
                e.store(score, found)
            return
        mask = b.bitcast(b.trunc(taken, ir.IntType(lanes)), ir.VectorType(ir.IntType(1), lanes))
        places = b.add(e.spread(first, lanes), ir.Constant(ir.VectorType(I64, lanes), list(range(lanes))))
        for values, address, kind in ((places, slots, "i64"), (score, found, "f32")):
            e.call(f"llvm.masked.compressstore.v{lanes}{kind}", VOID, values, e.pointer(address), mask)


def _bits(e: Emitter, hits: Value) -> Value:
    """One of each lane, as an integer."""
    lanes = lanes_of(hits)
    return e.b.zext(hits if lanes == 1 else e.b.bitcast(hits, ir.IntType(lanes)), I64)


def _ones(e: Emitter, bits: Value) -> Value:
    return e.call("llvm.ctpop.i64", I64, bits)
