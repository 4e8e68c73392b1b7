"""Weights of scores for attention on the processor's matrix tiles, 32 queries at a time, one in each lane of two vectors.

Weights are powers of two, measured by a whole exponent of each query's own: the one of the highest score of the first run that
it sees. Only where a later run is far above that is it raised, and what there is by then lowered, which rounds nothing. So no
pass over all scores looks for the highest ones, and as sums are divided by totals measured likewise, nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from llvmlite import ir

from core.attention.sides import BLOCK
from core.compiled.arithmetic import exp2_bfloat, scaled
from core.compiled.emitter import I32, LANES, VF32, VI32, Emitter, Value, constant, number
from core.compiled.numbers import UPPER
from core.compiled.tiles import LINE, SIDE, Tiles

Pair = tuple[Value, Value]  # vectors of sixteen queries and sixteen

_NOTHING = -(2.0**100)  # the exponent of a query that has seen nothing
_MOST = 2.0**40  # a total of weights of a run from which on a query's exponent is raised
_ZEROS = (constant(VF32, 0.0), constant(VF32, 0.0))


@dataclass(frozen=True)
class Span:
    """Slots that queries of an item see, counted from `origin` on: from `first`, a multiple of SIDE, up to `stop`.

    All queries see those from `whole` to before `part`; each sees those from its `low` to before its `high`, two vectors.
    """

    kv_head: Value
    origin: Value
    first: Value
    stop: Value
    whole: Value
    part: Value
    low: list[Value]
    high: list[Value]


def pair(e: Emitter, address: Value) -> Pair:
    first, second = (e.load(e.b.add(address, number(LINE * half)), VF32, LINE) for half in range(2))
    return first, second


def store_pair(e: Emitter, values: Sequence[Value], address: Value) -> None:
    for half, value in enumerate(values):
        e.store(value, e.b.add(address, number(LINE * half)), LINE)


def both(change: Callable[..., Value], *pairs: Sequence[Value]) -> Pair:
    first, second = (change(*each) for each in zip(*pairs, strict=True))
    return first, second


class Weighing:
    """Code that turns scores float32 [SIDE slots, queries] into weights, words of two slots [SIDE / 2, queries], run by run.

    sums: float32 [D, queries], to be lowered together with the totals; room: for `ROOM` bytes.
    """

    ROOM = SIDE * (4 * SIDE + 2 * BLOCK + 12)

    def __init__(self, e: Emitter, size: int, sums: Value, room: Value) -> None:
        self.e, self.size, self.sums = e, size, sums
        self.scale = e.spread(e.float_argument(e.scale_bits))
        self.scores, self._weights = room, e.b.add(room, number(4 * SIDE * SIDE))
        stats = e.b.add(self._weights, number(2 * SIDE * BLOCK))
        self._exponents, self._totals, self._fresh = (e.b.add(stats, number(2 * LINE * i)) for i in range(3))

    def begin(self) -> None:
        """No query has seen anything."""
        store_pair(self.e, [constant(VF32, _NOTHING)] * 2, self._exponents)
        store_pair(self.e, _ZEROS, self._totals)

    def totals(self) -> Pair:
        return pair(self.e, self._totals)

    def weights(self, run: Value) -> Value:
        """The address of the weights of a run, until those of the next block are made."""
        return self.e.at(self._weights, self.e.b.urem(run, number(BLOCK // SIDE)), 2 * SIDE * SIDE)

    def weigh(self, span: Span, run: Value, asked: Sequence[Value]) -> None:
        """Weights of the scores of a run; asked: addresses of rows [SIDE, D] of bfloat16 that are needed soon."""
        e, b = self.e, self.e.b
        self._hide(span, b.mul(run, number(SIDE)))
        unset = both(lambda x: b.fcmp_ordered("==", x, constant(VF32, _NOTHING)), pair(e, self._exponents))
        with b.if_then(self._some(unset)):
            self._raise(unset)
        self._powers(self.weights(run), asked)
        over = both(lambda x: b.fcmp_ordered(">", x, constant(VF32, _MOST)), pair(e, self._fresh))
        with b.if_then(self._some(over)):
            self._lower(self._raise(over))
            self._powers(self.weights(run), ())
        store_pair(e, both(b.fadd, self.totals(), pair(e, self._fresh)), self._totals)

    def _hide(self, span: Span, first: Value) -> None:
        """What a query does not see of a run, which begins at slot `first` of the span, becomes the lowest of all."""
        e, b = self.e, self.e.b

        def one(i: Value, _: list[Value]) -> list[Value]:
            address, place = e.at(self.scores, i, 2 * LINE), e.spread(b.trunc(b.add(first, i), I32))

            def seen(x: Value, low: Value, high: Value) -> Value:
                inside = b.and_(b.icmp_signed(">=", place, low), b.icmp_signed("<", place, high))
                return b.select(inside, x, constant(VF32, -inf))

            store_pair(e, both(seen, pair(e, address), span.low, span.high), address)
            return []

        begins, ends = b.icmp_signed(">=", first, span.whole), b.icmp_signed("<=", b.add(first, number(SIDE)), span.part)
        with b.if_then(b.not_(b.and_(begins, ends))):
            e.loop(number(0), number(SIDE), [], one)

    def _some(self, queries: Pair) -> Value:
        """Whether there are any."""
        b, kind = self.e.b, ir.IntType(LANES)
        return b.icmp_unsigned("!=", b.or_(*(b.bitcast(each, kind) for each in queries)), ir.Constant(kind, 0))

    def _two_slots(self, i: Value) -> list[Pair]:
        return [pair(self.e, self.e.at(self.scores, i, 4 * LINE, 2 * LINE * slot)) for slot in range(2)]

    def _powers(self, weights: Value, asked: Sequence[Value]) -> None:
        """Weights, two slots at a time, and what they come to. Memory is asked for while there is much to compute."""
        e, b = self.e, self.e.b
        shifts, tiles = both(b.fneg, pair(e, self._exponents)), Tiles(e)

        def two(i: Value, totals: list[Value]) -> list[Value]:
            for address in asked:
                tiles.ask(e.at(address, i, 4 * self.size), 4 * self.size)
            words = [both(lambda x, shift: exp2_bfloat(e, e.fma(x, self.scale, shift)), x, shifts) for x in self._two_slots(i)]
            store_pair(e, both(self._word, *words), e.at(weights, i, 2 * LINE))
            sums = both(lambda even, odd: b.fadd(b.bitcast(even, VF32), b.bitcast(odd, VF32)), *words)
            return list(both(b.fadd, totals, sums))

        store_pair(e, e.loop(number(0), number(LANES), _ZEROS, two), self._fresh)

    def _word(self, even: Value, odd: Value) -> Value:
        return self.e.b.or_(self.e.b.lshr(even, constant(VI32, 16)), odd)

    def _raise(self, queries: Pair) -> Pair:
        """Measure these queries by the highest scores of this run; returns by which exponents what is older is too high."""
        e, b = self.e, self.e.b

        def two(i: Value, highest: list[Value]) -> list[Value]:
            values = [x for slot in self._two_slots(i) for x in slot]
            return [e.highest(*each) for each in zip(values, highest, strict=True)]

        lowest = constant(VF32, _NOTHING)
        highest = e.loop(number(0), number(LANES), [lowest] * 4, two)
        scores = both(e.highest, highest[:2], highest[2:])
        exponents = both(lambda x: e.highest(e.unary("ceil", b.fmul(x, self.scale)), lowest), scores)
        before = pair(e, self._exponents)
        now = both(b.select, queries, exponents, before)
        store_pair(e, now, self._exponents)
        return both(b.fsub, before, now)

    def _lower(self, powers: Pair) -> None:
        """Sums, totals and weights by these powers of two, without rounding."""
        e = self.e

        def line(at: Value) -> list[Value]:
            store_pair(e, both(lambda x, power: scaled(e, x, power), pair(e, at), powers), at)
            return []

        e.loop(number(0), number(self.size), [], lambda i, _: line(e.at(self.sums, i, 2 * LINE)))
        line(self._totals)
        e.loop(number(0), number(BLOCK // 2), [], lambda i, _: self._lower_words(powers, e.at(self._weights, i, 2 * LINE)))

    def _lower_words(self, powers: Pair, at: Value) -> list[Value]:
        e, b = self.e, self.e.b

        def lowered(bits: Value, power: Value) -> Value:
            return b.and_(b.bitcast(scaled(e, b.bitcast(bits, VF32), power), VI32), constant(VI32, UPPER))

        def word(x: Value, power: Value) -> Value:
            bits = b.bitcast(x, VI32)
            even, odd = b.shl(bits, constant(VI32, 16)), b.and_(bits, constant(VI32, UPPER))
            return self._word(lowered(even, power), lowered(odd, power))

        store_pair(e, both(word, pair(e, at), powers), at)
        return []
