"""Attention of a few query rows over coded blocks of keys and values, for the compiled step.

Keys: q · (z + s c) over the channels is q · z and the product of q ∘ s with the codes; values likewise over the tokens, with
weights in the place of queries. Those products are of integers: what a row multiplies codes with is rounded to 24 bits, with
one scale for a block of keys or a chunk of values, and taken as three digits of eight bits, each multiplied by itself. Sums of
integers are exact, and each row goes through the same operations, whatever rows are computed with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from llvmlite import ir

from core.attention.kernel import CHUNK, tiles
from core.cache.coded import CodedForm
from core.compiled.emitter import F32, I8, I32, LANES, VF32, VI32, Emitter, Value, constant, number, vector
from core.compiled.jit import register_lanes
from core.compiled.numbers import read
from core.weights.kernel import byte_sums

_SMALLEST = 1e-30  # of a row's largest magnitude: no scale is a denormal
_DIGITS = 3  # of a number, each from −128 to 127
_LARGEST = 127 << 16
_HALVES = 0x00808080  # 128 in every digit
_QUERIES, _VECTORS = (4, 2) if register_lanes() == 16 else (2, 1)  # of a tile: what registers hold sums of
_PREFETCHED = 64  # tokens ahead


def has_kernels(form: CodedForm) -> bool:
    """Whether blocks fill chunks and vectors, and sums of products fit 32 bits."""
    size = form.sizes[0]
    fits = size <= 1 << 15 and CHUNK % form.group == 0
    return fits and size == form.sizes[1] and size % LANES == 0 and form.group % LANES == 0


def room_nbytes(form: CodedForm, queries: int) -> int:
    """Bytes of room that the kernels need for so many queries."""
    of_keys = CHUNK // form.group * _row_nbytes(form.sizes[0])
    return 4 * CHUNK + queries * max(of_keys, _row_nbytes(CHUNK))


def _row_nbytes(columns: int) -> int:
    """Of a row of numbers in digits, then its scale and its addend."""
    return 4 * columns + 8


@cache
def coded_scores_kernel(form: CodedForm) -> int:
    """The address of the compiled products of queries with keys.

    Called with: the address of the first block's record, the number of blocks, the address of queries float32 [queries, D]
    and their number, the address of scores float32 and the distance between its rows, and the address of room.
    """
    e = Emitter(f"coded_scores_{_name(form)}", "records blocks queries count scores stride room")
    rows = _Rows(e, form.sizes[0], form.bits)

    def fold(block: Value, _: list[Value]) -> list[Value]:
        record = e.at(e.records, block, form.nbytes)
        for line in range(0, form.nbytes, 64):
            e.prefetch(e.b.add(record, number(_PREFETCHED * form.nbytes // form.group + line)))
        _fold_queries(rows, form, record, e.b.mul(block, e.count))
        return []

    def multiply(block: Value, _: list[Value]) -> list[Value]:
        scores, first = e.at(e.scores, block, 4 * form.group), e.b.mul(block, e.count)
        record = e.at(e.records, block, form.nbytes)
        tiles(e, _QUERIES, lambda e, queries, query: _key_products(rows, form, record, scores, queries, query, first))
        return []

    # Folding takes long for one block and hardly longer for several, which do not wait for one another.
    e.loop(number(0), e.blocks, [], fold)
    e.loop(number(0), e.blocks, [], multiply)
    return e.finish()


@cache
def coded_mix_kernel(form: CodedForm) -> int:
    """The address of the compiled weighted sums of values.

    Called with: the address of the first block's record, the number of blocks, the address of weights float32
    [queries, stride], the number of queries, the distance between rows of weights, the address of sums float32 [queries, D]
    and the address of room.
    """
    e = Emitter(f"coded_mix_{_name(form)}", "records blocks weights count stride sums room")
    rows = _Rows(e, CHUNK, form.bits)
    for share in range(form.sizes[1] // form.channels):
        _fold_weights(rows, form, share)
        tiles(e, _QUERIES, lambda e, queries, first, at=share: _value_products(rows, form, at, queries, first))  # type: ignore[misc]
    return e.finish()


def _name(form: CodedForm) -> str:
    return f"{form.bits}_{form.group}_{form.sizes[0]}_{form.channels}"


@dataclass(frozen=True)
class _Rows:
    """Rows as products take them, in the room: the digits of each four columns whose codes are the bytes of a word, lowest
    ones first; then a scale, and what is added."""

    e: Emitter
    columns: int
    bits: int

    def at(self, row: Value) -> Value:
        return self.e.at(self.e.b.add(self.e.room, number(4 * CHUNK)), row, _row_nbytes(self.columns))

    def inverse(self, row: Value, largest: Value, added: Value) -> Value:
        """Keep scale and addend of a row with this largest magnitude; what its numbers are to be multiplied by."""
        e, largest = self.e, self.e.highest(largest, constant(F32, _SMALLEST))
        e.store(e.b.fdiv(largest, constant(F32, _LARGEST)), self._end(row, 0))
        e.store(added, self._end(row, 1))
        return e.b.fdiv(constant(F32, _LARGEST), largest)

    def keep(self, row: Value, column: Value, x: Value, inverse: Value) -> None:
        """The digits of sixteen numbers from `column` on."""
        e = self.e
        whole = e.b.fptosi(e.unary("rint", e.b.fmul(x, e.spread(inverse))), VI32)
        digits = e.b.xor(e.b.add(whole, constant(VI32, _HALVES)), constant(VI32, _HALVES))
        flat = e.b.bitcast(digits, vector(I8, 4 * LANES))
        order = [4 * column + digit for word in self._words() for digit in range(4) for column in word]
        e.store(e.b.shuffle_vector(flat, flat, ir.Constant(vector(I32, 4 * LANES), order)), e.at(self.at(row), column, 4))

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


def _fold_queries(rows: _Rows, form: CodedForm, record: Value, first: Value) -> None:
    """Every query times the scales of this block's channels, in rows from `first` on."""
    e, size = rows.e, form.sizes[0]
    columns = range(0, size, LANES)
    scales = [_scales(e, form, record, 1, column) for column in columns]

    def query(index: Value, _: list[Value]) -> list[Value]:
        row = e.b.add(first, index)
        folded, largest, added = [], constant(VF32, 0.0), constant(VF32, 0.0)
        for column, (scale, zero) in zip(columns, scales, strict=True):
            q = e.load(e.at(e.at(e.queries, index, 4 * size), column, 4), VF32, 4)
            folded.append(e.b.fmul(q, scale))
            largest, added = e.highest(e.unary("fabs", folded[-1]), largest), e.fma(q, zero, added)
        inverse = rows.inverse(row, e.joined(largest, e.highest), e.joined(added, e.b.fadd))
        for column, x in zip(columns, folded, strict=True):
            rows.keep(row, number(column), x, inverse)
        return []

    e.loop(number(0), e.count, [], query)


def _fold_weights(rows: _Rows, form: CodedForm, share: int) -> None:
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
                largest, added = e.highest(e.unary("fabs", folded), largest), e.fma(weight, zero, added)
            return [largest, added]

        largest, added = e.loop(number(0), e.blocks, [constant(VF32, 0.0)] * 2, block)
        inverse = rows.inverse(index, e.joined(largest, e.highest), e.joined(added, e.b.fadd))

        def tokens(at: Value, _: list[Value]) -> list[Value]:
            rows.keep(index, at, e.load(e.at(e.room, at, 4), VF32, 4), inverse)
            return []

        e.loop(number(0), e.b.mul(e.blocks, number(form.group)), [], tokens, step=LANES)
        return []

    e.loop(number(0), e.count, [], query)


def _key_products(
    rows: _Rows, form: CodedForm, record: Value, scores: Value, queries: int, query: Value, first: Value
) -> None:
    """Scores of a block's tokens, sixteen in a vector. first: the row of the block's first query."""
    e, last = rows.e, form.group // LANES
    for begin in range(0, last, _VECTORS):
        tile = _Tile(rows, form, 0, queries, e.b.add(first, query), range(begin, min(begin + _VECTORS, last)))
        lines = [e.at(scores, e.b.mul(e.b.add(query, number(row)), e.stride), 4) for row in range(queries)]
        tile.store(tile.sums(record, number(0), tile.zeros()), lines)


def _value_products(rows: _Rows, form: CodedForm, share: int, queries: int, first: Value) -> None:
    """Sums of the values of all blocks, for one share of the channels, sixteen in a vector."""
    e, many = rows.e, form.channels // LANES
    for begin in range(share * many, (share + 1) * many, _VECTORS):
        tile = _Tile(rows, form, 1, queries, first, range(begin, min(begin + _VECTORS, (share + 1) * many)))

        def block(index: Value, sums: list[Value], tile: _Tile = tile) -> list[Value]:
            words = form.group // 4
            return tile.sums(e.at(e.records, index, form.nbytes), e.b.mul(index, number(words)), sums)

        lines = [e.at(e.sums, e.b.add(first, number(row)), 4 * form.sizes[1]) for row in range(queries)]
        tile.store(e.loop(number(0), e.blocks, tile.zeros(), block), lines)


@dataclass(frozen=True)
class _Tile:
    """Products of `queries` rows from `first` on with some vectors of a block's keys (part 0) or values (part 1).

    Sums are in a row: of each query, of each vector, of each digit.
    """

    rows: _Rows
    form: CodedForm
    part: int
    queries: int
    first: Value
    vectors: range

    def zeros(self) -> list[Value]:
        return [constant(VI32, 0)] * (self.queries * len(self.vectors) * _DIGITS)

    def sums(self, record: Value, word: Value, sums: list[Value]) -> list[Value]:
        """`sums` and the products of all columns with those of the rows from `word` on, four in a word."""
        e, codes = self.rows.e, self.form.codes
        units, planes = self.form.matrices[self.part][1] // codes.unit, 8 // codes.bits
        places = [self.form.places[3 * self.part] + 4 * LANES * units * vector for vector in self.vectors]

        def unit(index: Value, carried: list[Value]) -> list[Value]:
            at = e.at(record, index, 4 * LANES)
            words = [e.load(e.b.add(at, number(place)), VI32, 4) for place in places]
            for plane in range(planes):
                column = e.b.add(word, e.b.add(e.b.mul(index, number(planes)), number(plane)))
                carried = self._added([self._plane(bits, plane) for bits in words], column, carried)
            return carried

        return e.loop(number(0), number(units), sums, unit)

    def _plane(self, words: Value, plane: int) -> Value:
        """One code in each byte of the words."""
        b, bits = self.rows.e.b, self.form.bits
        if bits == 8:
            return words
        shifted = b.lshr(words, constant(VI32, plane * bits)) if plane else words
        return b.and_(shifted, constant(VI32, ((1 << bits) - 1) * 0x01010101))

    def _added(self, codes: Sequence[Value], column: Value, sums: list[Value]) -> list[Value]:
        added, left = [], iter(sums)
        for row in range(self.queries):
            digits = [self.rows.digit(self._row(row), column, digit) for digit in range(_DIGITS)]
            added += [byte_sums(self.rows.e, next(left), each, digit) for each in codes for digit in digits]
        return added

    def store(self, sums: Sequence[Value], lines: Sequence[Value]) -> None:
        """The numbers that the sums make, in one line for each query."""
        e, left = self.rows.e, iter(sums)
        for row, line in enumerate(lines):
            for vector in self.vectors:
                value = self.rows.scaled(self._row(row), [next(left) for _ in range(_DIGITS)])
                e.store(value, e.at(line, vector * LANES, 4))

    def _row(self, row: int) -> Value:
        return self.rows.e.b.add(self.first, number(row))
