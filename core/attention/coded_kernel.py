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

from core.attention.coded_rows import DIGITS, Rows, fold_queries, fold_weights, normalize, row_nbytes
from core.attention.kernel import CHUNK, tiles
from core.cache.coded import CodedForm
from core.compiled.emitter import LANES, VI32, Emitter, Value, constant, number
from core.compiled.jit import register_lanes
from core.weights.kernel import byte_sums

_QUERIES, _VECTORS = (4, 2) if register_lanes() == 16 else (2, 1)  # of a tile: what registers hold sums of
_PREFETCHED = CHUNK  # tokens ahead


def has_kernels(form: CodedForm) -> bool:
    """Whether blocks fill chunks and vectors, and sums of products fit 32 bits."""
    size = form.sizes[0]
    fits = size <= 1 << 15 and CHUNK % form.group == 0
    return fits and size == form.sizes[1] and size % LANES == 0 and form.group % LANES == 0


def room_nbytes(form: CodedForm, queries: int) -> int:
    """Bytes of room that the kernels need for so many queries."""
    of_keys = row_nbytes(form.sizes[0]) * (1 + CHUNK // form.group)
    return 4 * CHUNK + queries * max(of_keys, row_nbytes(CHUNK))


@cache
def coded_scores_kernel(form: CodedForm) -> int:
    """The address of the compiled products of queries with keys.

    Called with: the address of the first block's record, the number of blocks, the address of queries float32 [queries, D]
    and their number, the address of scores float32 and the distance between its rows, and the address of room.
    """
    e = Emitter(f"coded_scores_{_name(form)}", "records blocks queries count scores stride room")
    rows = Rows(e, form.sizes[0], form.bits, e.at(e.room, e.count, row_nbytes(form.sizes[0])))
    e.loop(number(0), e.count, [], lambda query, _: normalize(e, form, query))

    def fold(block: Value, _: list[Value]) -> list[Value]:
        record = e.at(e.records, block, form.nbytes)
        fold_queries(rows, form, record, e.b.mul(block, e.count))
        return []

    def multiply(block: Value, _: list[Value]) -> list[Value]:
        scores, first = e.at(e.scores, block, 4 * form.group), e.b.mul(block, e.count)
        record = e.at(e.records, block, form.nbytes)
        tiles(e, _QUERIES, lambda _, queries, query: _key_products(rows, form, record, scores, queries, query, first))
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
    rows = Rows(e, CHUNK, form.bits, e.b.add(e.room, number(4 * CHUNK)))
    for share in range(form.sizes[1] // form.channels):
        fold_weights(rows, form, share)
        tiles(e, _QUERIES, lambda _, queries, first, at=share: _value_products(rows, form, at, queries, first))  # type: ignore[misc]
    return e.finish()


def _name(form: CodedForm) -> str:
    return f"{form.bits}_{form.group}_{form.sizes[0]}_{form.channels}"


def _key_products(rows: Rows, form: CodedForm, record: Value, scores: Value, queries: int, query: Value, first: Value) -> None:
    """Scores of a block's tokens, sixteen in a vector. first: the row of the block's first query."""
    e, last = rows.e, form.group // LANES
    for begin in range(0, last, _VECTORS):
        tile = _Tile(rows, form, 0, queries, e.b.add(first, query), range(begin, min(begin + _VECTORS, last)))
        lines = [e.at(scores, e.b.mul(e.b.add(query, number(row)), e.stride), 4) for row in range(queries)]
        tile.store(tile.sums(record, number(0), tile.zeros()), lines)


def _value_products(rows: Rows, form: CodedForm, share: int, queries: int, first: Value) -> None:
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

    rows: Rows
    form: CodedForm
    part: int
    queries: int
    first: Value
    vectors: range

    def zeros(self) -> list[Value]:
        return [constant(VI32, 0)] * (self.queries * len(self.vectors) * DIGITS)

    def sums(self, record: Value, word: Value, sums: list[Value]) -> list[Value]:
        """`sums` and the products of all columns with those of the rows from `word` on, four in a word."""
        e, codes = self.rows.e, self.form.codes
        units, planes = self.form.matrices[self.part][1] // codes.unit, 8 // codes.bits
        places = [self.form.places[3 * self.part] + 4 * LANES * units * vector for vector in self.vectors]

        def unit(index: Value, carried: list[Value]) -> list[Value]:
            at = e.at(record, index, 4 * LANES)
            self._fetch(record, index, units)
            words = [e.load(e.b.add(at, number(place)), VI32, 4) for place in places]
            for plane in range(planes):
                column = e.b.add(word, e.b.add(e.b.mul(index, number(planes)), number(plane)))
                carried = self._added([self._plane(bits, plane) for bits in words], column, carried)
            return carried

        return e.loop(number(0), number(units), sums, unit)

    def _fetch(self, record: Value, unit: Value, units: int) -> None:
        """Ask for this unit's share of a later block. A few lines at a time: more at once would wait for each other."""
        e, form, (rows, _) = self.rows.e, self.form, self.form.matrices[self.part]
        start, span = form.places[3 * self.part], sum(form.parts[3 * self.part : 3 * self.part + 3])
        first, last = (span * vector * LANES // rows for vector in (self.vectors.start, self.vectors.stop))
        share = -(-(last - first) // units)
        place = e.at(e.b.add(record, number(_PREFETCHED * form.nbytes // form.group + start + first)), unit, share)
        for line in range(0, share, 64):
            e.prefetch(e.b.add(place, number(line)), near=False)

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
            digits = [self.rows.digit(self._row(row), column, digit) for digit in range(DIGITS)]
            added += [byte_sums(self.rows.e, next(left), each, digit) for each in codes for digit in digits]
        return added

    def store(self, sums: Sequence[Value], lines: Sequence[Value]) -> None:
        """The numbers that the sums make, in one line for each query."""
        e, left = self.rows.e, iter(sums)
        for row, line in enumerate(lines):
            for vector in self.vectors:
                value = self.rows.scaled(self._row(row), [next(left) for _ in range(DIGITS)])
                e.store(value, e.at(line, vector * LANES, 4))

    def _row(self, row: int) -> Value:
        return self.rows.e.b.add(self.first, number(row))
