"""What coded blocks are multiplied with: queries times scales of keys, or weights times scales of values, in digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from core.cache.coded import CodedForm
from core.compiled.emitter import F32, I8, I32, LANES, VF32, VI32, Emitter, Value, constant, number, vector
from core.compiled.numbers import read

_SMALLEST = 1e-30  # of a row's largest magnitude: no scale is a denormal
DIGITS = 3  # of a number, each from −128 to 127
_LARGEST = 127 << 16
_HALVES = 0x00808080  # 128 in every digit


def row_nbytes(columns: int) -> int:
    """Of a row of numbers in digits, then its scale and its addend."""
    return 4 * columns + 8


@dataclass(frozen=True)
class Rows:
    """Rows as products take them, in the room: the digits of each four columns whose codes are the bytes of a word, lowest
    ones first; then a scale, and what is added."""

    e: Emitter
    columns: int
    bits: int
    first: Value

    def at(self, row: Value) -> Value:
        return self.e.at(self.first, row, row_nbytes(self.columns))

    def finish(self, row: Value, scale: Value, added: Value) -> None:
        self.e.store(scale, self._end(row, 0))
        self.e.store(added, self._end(row, 1))

    def keep(self, row: Value, column: Value, x: Value) -> None:
        """The digits of sixteen numbers from `column` on, which are within ±_LARGEST but for a rounding."""
        e = self.e
        whole = e.b.fptosi(e.unary("rint", x), VI32)
        digits = e.b.xor(e.b.add(whole, constant(VI32, _HALVES)), constant(VI32, _HALVES))
        flat = e.b.bitcast(digits, vector(I8, 4 * LANES))
        order = [4 * column + digit for word in self._words() for digit in range(4) for column in word]
        e.store(e.picked(flat, flat, order), e.at(self.at(row), column, 4))

    def _words(self) -> list[list[int]]:
        """Of sixteen columns, each four whose codes are the bytes of one word, see `pack` in core/weights/kernel.py."""
        planes, unit = 8 // self.bits, 32 // self.bits
        starts = [first + 2 * plane for first in range(0, LANES, unit) for plane in range(planes)]
        return [[start + half + 2 * planes * place for half in (0, 1) for place in (0, 1)] for start in starts]

    def digit(self, row: Value, word: Value, digit: int) -> Value:
        """One digit of the four columns of `word`, in every lane."""
        return self.e.spread(self.e.load(self.e.b.add(self.e.at(self.at(row), word, 16), number(4 * digit)), I32, 4))

    def scaled(self, row: Value, sums: Sequence[Value]) -> Value:
        """The numbers that sums of each digit make."""
        e, total = self.e, constant(VF32, 0.0)
        for each in reversed(sums):
            total = e.fma(total, constant(VF32, 256.0), e.b.sitofp(each, VF32))
        scale, added = (e.spread(e.load(self._end(row, place), F32, 4)) for place in (0, 1))
        return e.fma(total, scale, added)

    def _end(self, row: Value, place: int) -> Value:
        return self.e.b.add(self.at(row), number(4 * self.columns + 4 * place))


def _scales(e: Emitter, form: CodedForm, record: Value, part: int, place: int) -> list[Value]:
    """Scales and zeros of sixteen channels or tokens. part: 1 for keys, 4 for values."""
    places = [form.places[which] + 2 * place for which in (part, part + 1)]
    return [read(e, e.b.add(record, number(at)), torch.float16, LANES) for at in places]


def _ratio(e: Emitter, largest: Value) -> tuple[Value, Value]:
    """The scale of numbers up to `largest`, and what they are to be multiplied by."""
    largest = e.highest(largest, constant(F32, _SMALLEST))
    return e.b.fdiv(largest, constant(F32, _LARGEST)), e.b.fdiv(constant(F32, _LARGEST), largest)


def normalize(e: Emitter, form: CodedForm, query: Value) -> list[Value]:
    """Put a query into the room with 1 as its largest magnitude, and that after it."""
    size = form.sizes[0]
    source, target = e.at(e.queries, query, 4 * size), e.at(e.room, query, row_nbytes(size))
    numbers = [e.load(e.at(source, column, 4), VF32, 4) for column in range(0, size, LANES)]
    largest = constant(VF32, _SMALLEST)
    for x in numbers:
        largest = e.highest(e.unary("fabs", x), largest)
    scale = e.joined(largest, e.highest)
    inverse = e.spread(e.b.fdiv(constant(F32, 1.0), scale))
    for column, x in zip(range(0, size, LANES), numbers, strict=True):
        e.store(e.b.fmul(x, inverse), e.at(target, column, 4))
    e.store(scale, e.at(target, size, 4))
    return []


def fold_queries(rows: Rows, form: CodedForm, record: Value, first: Value) -> None:
    """Every query times the scales of this block's channels, in rows from `first` on."""
    e, size = rows.e, form.sizes[0]
    columns = range(0, size, LANES)
    scales, zeros = zip(*(_scales(e, form, record, 1, column) for column in columns), strict=True)
    largest = scales[0]
    for other in scales[1:]:
        largest = e.highest(other, largest)
    scale, inverse = _ratio(e, e.joined(largest, e.highest))
    factors = [e.b.fmul(each, e.spread(inverse)) for each in scales]

    def query(index: Value, _: list[Value]) -> list[Value]:
        row, source, added = e.b.add(first, index), e.at(e.room, index, row_nbytes(size)), constant(VF32, 0.0)
        for column, factor, zero in zip(columns, factors, zeros, strict=True):
            q = e.load(e.at(source, column, 4), VF32, 4)
            rows.keep(row, number(column), e.b.fmul(q, factor))
            added = e.fma(q, zero, added)
        own = e.load(e.at(source, size, 4), F32, 4)
        rows.finish(row, e.b.fmul(own, scale), e.b.fmul(own, e.joined(added, e.b.fadd)))
        return []

    e.loop(number(0), e.count, [], query)


def fold_weights(rows: Rows, form: CodedForm, share: int) -> None:
    """The weights of every query times the scales of the tokens, for one share of the channels."""
    e = rows.e

    def query(index: Value, _: list[Value]) -> list[Value]:
        weights = e.at(e.weights, e.b.mul(index, e.stride), 4)

        def block(number_: Value, carried: list[Value]) -> list[Value]:
            largest, added = carried
            record, first = e.at(e.records, number_, form.nbytes), e.b.mul(number_, number(form.group))
            for token in range(0, form.group, LANES):
                scale, zero = _scales(e, form, record, 4, share * form.group + token)
                at = e.b.add(first, number(token))
                weight = e.load(e.at(weights, at, 4), VF32, 4)
                folded = e.b.fmul(weight, scale)
                e.store(folded, e.at(e.room, at, 4))
                largest, added = e.highest(folded, largest), e.fma(weight, zero, added)
            return [largest, added]

        largest, added = e.loop(number(0), e.blocks, [constant(VF32, 0.0)] * 2, block)
        scale, inverse = _ratio(e, e.joined(largest, e.highest))
        rows.finish(index, scale, e.joined(added, e.b.fadd))

        def tokens(at: Value, _: list[Value]) -> list[Value]:
            rows.keep(index, at, e.b.fmul(e.load(e.at(e.room, at, 4), VF32, 4), e.spread(inverse)))
            return []

        e.loop(number(0), e.b.mul(e.blocks, number(form.group)), [], tokens, step=LANES)
        return []

    e.loop(number(0), e.count, [], query)
