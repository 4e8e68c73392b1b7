"""Attention of a few query rows over cached keys and values on the processor's matrix tiles, for the compiled step.

Keys are the left factor of scores, and values the right one of their weighted sums, as they lie in the cache. What they are
multiplied by is float32, as two numbers of bfloat16 whose sum it is to 2⁻¹⁷: each fills columns, or rows, of its own, of which
a few queries leave enough. Each sum goes through the same operations whatever rows are computed with it.
"""

from __future__ import annotations

from functools import cache

import torch
from llvmlite import ir

from core.attention.few_laid import QUERIES, laid_nbytes, lay_queries_kernel, upper_parts
from core.attention.kernel import CHUNK, tiles
from core.compiled.emitter import F32, I32, LANES, VF32, VI32, Emitter, Value, constant, number, vector
from core.compiled.numbers import split_like, store_two
from core.compiled.tiles import COLUMNS, LINE, TILE, Tiles, available, configuration

_WEIGHED = LANES // 4  # whose two parts, by even and odd columns of values, fill the rows of a tile
_TILES = 4  # of sums at a time
_LEFT, _RIGHT = 4, 6
_AHEAD = 4096  # bytes
_ORDER = ir.Constant(VI32, list(range(LANES)))


def fits(head_size: int, dtype: torch.dtype) -> bool:
    """Whether these kernels can read such keys and values, on a processor with tiles."""
    return dtype == torch.bfloat16 and head_size % COLUMNS == 0 and available()


def kernels(head_size: int) -> dict[str, int]:
    """What the compiled step calls, by the names of its record."""
    return {
        "lay_queries": lay_queries_kernel(head_size), "scores_kernel": scores_kernel(head_size),
        "mix_kernel": mix_kernel(head_size), "open_tiles": open_kernel(), "close_tiles": close_kernel(),
        "tiles_config": configuration().ctypes.data,
    }  # fmt: skip


@cache
def open_kernel() -> int:
    """The address of compiled code that makes tiles ready for the kernels; called with that of their configuration."""
    e = Emitter("open_tiles", "config")
    Tiles(e).configure(e.config)
    return e.finish()


@cache
def close_kernel() -> int:
    """The address of compiled code that gives them back; called with nothing."""
    e = Emitter("close_tiles", "")
    Tiles(e).release()
    return e.finish()


@cache
def scores_kernel(size: int) -> int:
    """The address of the compiled products of queries with keys.

    Called like the one of vectors, with queries as tiles. Up to fifteen numbers after the last score are overwritten.
    """
    e = Emitter(f"tiled_scores_{size}", "keys laid count scores stride first last")
    scores = _Scores(e, size)
    return tiles(e, QUERIES, lambda _, queries, first: scores.of(queries, first)).finish()


@cache
def mix_kernel(size: int) -> int:
    """The address of the compiled weighted sums of values, called like the one of vectors.

    Runs of slots begin at multiples of sixteen, wherever the first slot is: a sum comes out the same.
    """
    e = Emitter(f"tiled_mix_{size}", "values weights count stride sums first last")
    mix = _Mix(e, size)
    return tiles(e, _WEIGHED, lambda _, queries, first: mix.of(queries, first)).finish()


class _Slots:
    """Rows of keys or values of which sixteen at a time are tiles, in a kernel from slot `first` to before `last`."""

    def __init__(self, e: Emitter, size: int, rows: Value) -> None:
        self.e, self.size, self.rows, self.row = e, size, rows, number(2 * size)
        self.tiles, self.line = Tiles(e), number(LINE)
        self.copy = e.stack(2 * LANES * size, LINE)
        self.sums = e.stack(_TILES * TILE, LINE)

    def run(self, slot: Value) -> Value:
        """The address of sixteen slots: of a copy, where some are not to be read, which are 0 there."""
        e, b = self.e, self.e.b
        whole = b.and_(b.icmp_signed(">=", slot, e.first), b.icmp_signed("<=", b.add(slot, number(LANES)), e.last))
        with b.if_then(b.not_(whole)):
            e.loop(number(0), number(LANES), [], lambda i, _: self._copied(slot, i))
        return b.select(whole, e.at(self.rows, slot, 2 * self.size), self.copy)

    def _copied(self, slot: Value, index: Value) -> list[Value]:
        e, b, place = self.e, self.e.b, self.e.b.add(slot, index)
        valid = b.and_(b.icmp_signed(">=", place, e.first), b.icmp_signed("<", place, e.last))
        source, target = (e.at(base, i, 2 * self.size) for base, i in (
            (self.rows, b.select(valid, place, e.first)), (self.copy, index),
        ))  # fmt: skip
        for line in range(0, 2 * self.size, LINE):
            value = b.select(valid, e.load(b.add(source, number(line)), VI32, 2), constant(VI32, 0))
            e.store(value, b.add(target, number(line)), LINE)
        return []

    def fetch(self, slot: Value) -> None:
        """Ask for what comes some time after this run."""
        for line in range(0, 2 * self.size * LANES, LINE):
            self.e.prefetch(self.e.at(self.rows, slot, 2 * self.size, line + _AHEAD))


class _Scores(_Slots):
    def __init__(self, e: Emitter, size: int) -> None:
        super().__init__(e, size, e.keys)

    def of(self, queries: int, first: Value) -> None:
        """Of so many queries, sixty-four slots at a time and then sixteen."""
        e, b, many = self.e, self.e.b, _TILES * LANES
        laid = e.at(e.laid, first, laid_nbytes(self.size, QUERIES) // QUERIES)
        middle = b.add(e.first, b.and_(b.sub(e.last, e.first), number(-many)))

        def runs(slot: Value, count: int) -> list[Value]:
            starts = [b.add(slot, number(LANES * i)) for i in range(count)]
            self._multiply(starts, laid)
            self._spread(first, queries, starts)
            return []

        e.loop(e.first, middle, [], lambda slot, _: runs(slot, _TILES), step=many)
        e.loop(middle, e.last, [], lambda slot, _: runs(slot, 1), step=LANES)

    def _multiply(self, slots: list[Value], laid: Value) -> None:
        """Sums of each run: of one, whose slots may be missing, or of several whole ones."""
        b = self.e.b
        for tile, slot in enumerate(slots):
            self.tiles.zero(tile)
            self.fetch(slot)
            keys = self.e.at(self.rows, slot, 2 * self.size) if len(slots) > 1 else self.run(slot)
            for column in range(self.size // COLUMNS):
                side = column % 2
                if not tile or self.size > 2 * COLUMNS:
                    self.tiles.take(_RIGHT + side, b.add(laid, number(TILE * column)), self.line)
                self.tiles.take(_LEFT + side, b.add(keys, number(LINE * column)), self.row)
                self.tiles.multiply(tile, _LEFT + side, _RIGHT + side)
        for tile in range(len(slots)):
            self.tiles.put(tile, b.add(self.sums, number(TILE * tile)), self.line)

    def _spread(self, first: Value, queries: int, slots: list[Value]) -> None:
        """Both parts added up, and each query's scores in a row."""
        e = self.e
        for tile, slot in enumerate(slots):
            for part in range(0, queries, 4):
                sums = [self._both(tile, row, part) for row in range(LANES)]
                lines = _rows_of(e, sums)
                for i in range(part, min(queries, part + 4)):
                    row = e.at(e.scores, e.b.mul(e.b.add(first, number(i)), e.stride), 4)
                    e.store(lines[i - part], e.at(row, slot, 4))

    def _both(self, tile: int, row: int, query: int) -> Value:
        """Scores of four queries with a slot."""
        e, at = self.e, self.e.b.add(self.sums, number(TILE * tile + LINE * row + 4 * query))
        return e.b.fadd(*(e.load(e.b.add(at, number(half * 4 * QUERIES)), vector(F32, 4), 16) for half in range(2)))


def _rows_of(e: Emitter, columns: list[Value]) -> list[Value]:
    """Sixteen vectors of four as four of sixteen."""
    wide = [
        e.concatenated([e.concatenated([columns[i], columns[i + 4]]), e.concatenated([columns[i + 8], columns[i + 12]])])
        for i in range(4)
    ]
    quarters = range(0, LANES, 4)
    low, high = (
        [e.picked(a, b, [q + i + side * LANES for q in quarters for i in half for side in (0, 1)])
         for a, b in (wide[:2], wide[2:])]
        for half in ((0, 1), (2, 3))
    )  # fmt: skip
    return [
        e.picked(a, b, [q + i + side * LANES for q in quarters for side in (0, 1) for i in half])
        for a, b in (low, high) for half in ((0, 1), (2, 3))
    ]  # fmt: skip


class _Mix(_Slots):
    def __init__(self, e: Emitter, size: int) -> None:
        super().__init__(e, size, e.values)
        self.weights = e.stack(CHUNK // LANES * TILE, LINE)
        self.begin = e.b.and_(e.first, number(-LANES))

    def of(self, queries: int, first: Value) -> None:
        """Of so many queries."""
        self._lay(first, queries)
        columns = min(self.size, _TILES * COLUMNS)
        for begin in range(0, self.size, columns):
            used = range(min(self.size - begin, columns) // COLUMNS)
            self._multiply(begin, used)
            self._add(first, queries, begin, used)

    def _laid(self, slot: Value) -> Value:
        """Where the weights of a run are."""
        return self.e.at(self.weights, self.e.b.sub(slot, self.begin), TILE // LANES)

    def _lay(self, first: Value, count: int) -> None:
        """Weights as tiles: of each query two parts, each alone with even columns and with odd ones."""
        e, b = self.e, self.e.b
        rows = [e.at(e.weights, b.mul(b.add(first, number(i)), e.stride), 4) for i in range(count)]

        def run(slot: Value, _: list[Value]) -> list[Value]:
            at = self._laid(slot)
            for i, row in enumerate(rows):
                weights = b.select(self._seen(slot), e.load(e.at(row, slot, 4), VF32, 4), constant(VF32, 0.0))
                for part, words in enumerate(upper_parts(e, weights)):
                    for half, line in enumerate((b.lshr(words, constant(VI32, 16)), words)):
                        e.store(line, b.add(at, number(LINE * (4 * i + 2 * part + half))), LINE)
            return []

        e.loop(self.begin, e.last, [], run, step=LANES)

    def _seen(self, slot: Value) -> Value:
        e, b = self.e, self.e.b
        first, last = (e.spread(b.trunc(b.sub(end, slot), I32)) for end in (e.first, e.last))
        return b.and_(b.icmp_signed(">=", _ORDER, first), b.icmp_signed("<", _ORDER, last))

    def _multiply(self, begin: int, used: range) -> None:
        e, b = self.e, self.e.b
        for tile in used:
            self.tiles.zero(tile)

        def run(slot: Value, _: list[Value]) -> list[Value]:
            if begin == 0:
                self.fetch(slot)
            at = self.run(slot)
            self.tiles.take(_LEFT, self._laid(slot), self.line)
            for tile in used:
                right = _RIGHT + tile % 2
                self.tiles.take(right, b.add(at, number(2 * begin + LINE * tile)), self.row)
                self.tiles.multiply(tile, _LEFT, right)
            return []

        e.loop(self.begin, e.last, [], run, step=LANES)
        for tile in used:
            self.tiles.put(tile, b.add(self.sums, number(TILE * tile)), self.line)

    def _add(self, first: Value, count: int, begin: int, used: range) -> None:
        e, b = self.e, self.e.b
        for i in range(count):
            row = e.at(e.sums, b.add(first, number(i)), 4 * self.size)
            for tile in used:
                at = b.add(self.sums, number(TILE * tile + 4 * LINE * i))
                lines = [e.load(b.add(at, number(LINE * part)), VF32, LINE) for part in range(4)]
                two = [b.fadd(lines[half], lines[2 + half]) for half in range(2)]
                target = b.add(row, number(4 * (begin + COLUMNS * tile)))
                old = split_like(e, target, torch.bfloat16, LANES)
                store_two(e, [b.fadd(*each) for each in zip(old, two, strict=True)], target, torch.bfloat16)
