"""What tiles of keys and values are multiplied with by a few query rows: float32 numbers as two of bfloat16.

Their sum is the number to 2⁻¹⁷.
"""

from __future__ import annotations

from functools import cache

from core.compiled.emitter import LANES, VF32, VI32, Emitter, Value, constant, number
from core.compiled.numbers import UPPER, rounded
from core.compiled.tiles import COLUMNS, LINE, TILE, narrowed, transposed

QUERIES = LANES // 2  # whose two parts fill the columns of a tile


def laid_nbytes(head_size: int, queries: int) -> int:
    """Bytes of so many queries as tiles."""
    return -(-queries // QUERIES) * head_size // COLUMNS * TILE


@cache
def lay_queries_kernel(size: int) -> int:
    """The address of the compiled layout of queries as tiles.

    Called with: the address of queries float32 [queries, D] and their number, and of where the tiles go.
    """
    e = Emitter(f"lay_queries_{size}", "queries count laid")

    def tile(index: Value, _: list[Value]) -> list[Value]:
        tiles = number(size // COLUMNS)
        first, column = e.b.mul(e.b.udiv(index, tiles), number(QUERIES)), e.b.mul(e.b.urem(index, tiles), number(COLUMNS))
        parts = [_two_parts(e, _query(e, size, e.b.add(first, number(i)), column)) for i in range(QUERIES)]
        for place, line in enumerate(transposed(e, [part[half] for half in range(2) for part in parts])):
            e.store(line, e.at(e.laid, index, TILE, place * LINE), LINE)
        return []

    groups = e.b.udiv(e.b.add(e.count, number(QUERIES - 1)), number(QUERIES))
    e.loop(number(0), e.b.mul(groups, number(size // COLUMNS)), [], tile)
    return e.finish()


def _query(e: Emitter, size: int, index: Value, column: Value) -> list[Value]:
    """Two vectors from `column` on; of the last query where there is none of this number."""
    at = e.at(e.at(e.queries, e.least(index, e.b.sub(e.count, number(1))), 4 * size), column, 4)
    return [e.load(e.b.add(at, number(half * LINE)), VF32, 4) for half in range(2)]


def _two_parts(e: Emitter, numbers: list[Value]) -> tuple[Value, Value]:
    """Words of two numbers each, in bfloat16; and what is left of these."""
    upper = [_upper(e, x) for x in numbers]
    left = [e.b.fsub(x, part) for x, part in zip(numbers, upper, strict=True)]
    return e.b.bitcast(narrowed(e, *upper), VI32), e.b.bitcast(narrowed(e, *left), VI32)


def _upper(e: Emitter, x: Value) -> Value:
    """The nearest numbers of bfloat16, as float32."""
    return e.b.bitcast(e.b.and_(rounded(e, x), constant(VI32, UPPER)), VF32)


def upper_parts(e: Emitter, x: Value) -> tuple[Value, Value]:
    """The words in whose upper halves two numbers of bfloat16 stand that make `x`."""
    upper = _upper(e, x)
    return e.b.bitcast(upper, VI32), e.b.bitcast(_upper(e, e.b.fsub(x, upper)), VI32)
