"""Full causal attention of a prompt on the processor's matrix tiles, in bfloat16 with a softmax in float32.

Values are first laid out as tiles. Then 32 queries at a time, one in each lane of two vectors, take blocks of keys in turn:
scores, their weights and the weighted values of a block stay in a thread's nearest cache, see `Weighing` (online softmax, Dao
et al. 2022, FlashAttention, arXiv 2205.14135). Blocks begin at fixed slots, so a query comes out the same whatever rows are
computed with it. Keys may be there in two forms side by side, see `Sides`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from llvmlite import ir
from torch import Tensor

from core.attention.laying import LAY_ARGUMENTS, lay_kernel
from core.attention.sides import BLOCK, Edges
from core.attention.weighing import Span, Weighing
from core.compiled.arithmetic import flushed
from core.compiled.crew import crew
from core.compiled.emitter import I32, I64, LANES, VF32, VI32, Emitter, Value, constant, number
from core.compiled.jit import callable_at
from core.compiled.tiles import (
    COLUMNS,
    LINE,
    SIDE,
    TILE,
    Factor,
    Tiles,
    available,
    configuration,
    paired,
    room,
    transposed,
)

_LOG2_E = 1.4426950408889634
_RUNS = BLOCK // SIDE  # of a block
_ATTEND = (
    "queries padded keys capacity last_keys laid out room config heads shared runs end "
    "edges turn base past scale_bits first step items"
)


def fits(queries: Tensor, keys: Tensor) -> bool:
    """Whether `attend` can compute these: bfloat16 throughout, D a multiple of COLUMNS, on a processor with tiles."""
    return {queries.dtype, keys.dtype} == {torch.bfloat16} and keys.shape[2] % COLUMNS == 0 and available()


def attend(queries: Tensor, keys: Tensor, values: Tensor, rows: int, scale: float, edges: Edges | None = None) -> Tensor:
    """Attention [P, H, D] of queries [H, P, D], of which the first `rows` count: the last of keys and values [G, S, D].

    All bfloat16, and scale > 0. P is `rows` or more, and a multiple of SIDE; keys and values may be parts of longer buffers.
    edges: which slots a query sees, where not all of its own and before.
    """
    (H, padded, D), (G, S, _), team = queries.shape, keys.shape, crew(torch.get_num_threads())
    runs, capacity = -(-S // SIDE), keys.stride(0) // D
    laid = torch.empty(G, runs, D, SIDE, dtype=torch.bfloat16)
    last_keys = torch.empty(G, SIDE, D, dtype=torch.bfloat16)
    out = torch.empty(padded, H, D, dtype=torch.bfloat16)
    lay, run = callable_at(lay_kernel(D), LAY_ARGUMENTS), callable_at(tiled_attention(D), len(_ATTEND.split()))
    made = last_keys.data_ptr(), laid.data_ptr()
    team.share(G * runs, lambda *part: lay(keys.data_ptr(), values.data_ptr(), S, capacity, *made, runs, *part))
    addresses = queries.data_ptr(), padded, keys.data_ptr(), capacity, *made, out.data_ptr()
    edges = edges or Edges(np.zeros(padded, np.int32), 0, 0)
    seen = edges.of_rows.ctypes.data, edges.turn, edges.base, S - edges.turn - rows
    shape = configuration().ctypes.data, H, H // G, runs, S, *seen, int(np.float32(scale * _LOG2_E).view(np.int32))
    items = H * -(-rows // SIDE)
    team.run(lambda thread: run(*addresses, room(_room_bytes(D)), *shape, thread, team.threads, items))
    return out


def _room_bytes(size: int) -> int:
    """Of sums, queries and what `Weighing` needs."""
    return SIDE * (4 * size + 2 * size) + Weighing.ROOM


@cache
def tiled_attention(size: int) -> int:
    """The address of the compiled attention.

    Called with: the address of queries [H, padded, D], padded; the address of keys [G, capacity, D], their capacity;
    addresses of what `lay_kernel` wrote, of the attention [padded, H, D], of room and of the configuration of tiles; H, the
    query heads of a KV head, runs a head; the number of slots; what `Edges` holds and the slots from its turn to the first
    query's own; the bits of the float32 that scores are multiplied by for powers of two; the first item, the step to the next
    and their number. Items are SIDE queries of a head each, see `_place`.
    """
    e = Emitter(f"tiled_attention_{size}", _ATTEND)
    _Attention(e, size).emit()
    return e.finish()


class _Attention:
    def __init__(self, e: Emitter, size: int) -> None:
        self.e, self.size, self.tiles = e, size, Tiles(e)
        self.sums = e.room  # float32 [D, queries]
        self.queries = e.b.add(self.sums, number(4 * SIDE * size))  # words of two columns [D / 2, queries]
        self.weighing = Weighing(e, size, self.sums, e.b.add(self.queries, number(2 * SIDE * size)))

    def emit(self) -> None:
        self.tiles.configure(self.e.config)
        with flushed(self.e):
            self.e.loop(self.e.first, self.e.items, [], lambda item, _: self._item(item), step=self.e.step)
        self.tiles.release()

    def _item(self, item: Value) -> list[Value]:
        e, b = self.e, self.e.b
        head, row = self._place(item)
        self._begin(e.at(e.queries, b.add(b.mul(head, e.padded), row), 2 * self.size))
        kv_head, seen = b.udiv(head, e.shared), b.add(e.past, row)  # slots before the first query
        edges = [e.load(e.at(e.edges, row, 4, LINE * half), VI32, 4) for half in range(2)]
        before, after = (b.sext(e.load(e.at(e.edges, row, 4, 4 * i), I32, 4), I64) for i in (0, SIDE - 1))
        never = [constant(VI32, 0)] * 2
        self._span(Span(kv_head, number(0), number(0), after, number(0), before, never, edges))
        start, stop = b.sub(before, e.base), e.least(b.add(seen, number(SIDE)), b.sub(e.end, e.turn))
        low = [b.sub(edge, self._spread(e.base)) for edge in edges]
        first = self._spread(seen)
        high = [b.add(first, ir.Constant(VI32, list(range(LANES * half + 1, LANES * half + LANES + 1)))) for half in range(2)]
        whole = b.sub(after, e.base), b.add(seen, number(1))
        self._span(Span(kv_head, e.turn, b.and_(start, number(-SIDE)), stop, *whole, low, high))
        self._finish(e.at(e.out, b.add(b.mul(row, e.heads), head), 2 * self.size))
        return []

    def _place(self, item: Value) -> tuple[Value, Value]:
        """A head and the row where its queries begin.

        Heads come one after the other, whose keys and values stay near. Every other begins with the last rows, which see most:
        threads that take turns get as much to do.
        """
        b, blocks = self.e.b, self.e.b.udiv(self.e.items, self.e.heads)
        head, block = b.udiv(item, blocks), b.urem(item, blocks)
        backwards = b.sub(b.sub(blocks, number(1)), block)
        odd = b.trunc(head, ir.IntType(1))
        return head, b.mul(b.select(odd, backwards, block), number(SIDE))

    def _spread(self, value: Value) -> Value:
        return self.e.spread(self.e.b.trunc(value, I32))

    def _span(self, span: Span) -> None:
        """Add the slots of a span, block by block."""
        e, b = self.e, self.e.b
        first, stop = (
            b.udiv(b.add(slot, number(more)), number(SIDE)) for slot, more in ((span.first, 0), (span.stop, SIDE - 1))
        )

        def block(index: Value, _: list[Value]) -> list[Value]:
            begin = b.select(b.icmp_signed("<", index, first), first, index)
            end = e.least(b.add(index, number(_RUNS)), stop)
            e.loop(begin, end, [], lambda run, _: self._run(span, run))
            self._mix(self._values(span, begin), self.weighing.weights(begin), b.sub(end, begin))
            return []

        e.loop(b.and_(first, number(-_RUNS)), stop, [], block, step=_RUNS)

    def _run(self, span: Span, run: Value) -> list[Value]:
        following = self._keys(span, self.e.b.add(run, number(1)))
        self._score(span, run)
        self.weighing.weigh(span, run, (self._values(span, run), following))
        return []

    def _keys(self, span: Span, run: Value) -> Value:
        e, b = self.e, self.e.b
        slot = b.add(span.origin, b.mul(run, number(SIDE)))
        return e.at(e.keys, b.add(b.mul(span.kv_head, e.capacity), slot), 2 * self.size)

    def _values(self, span: Span, run: Value) -> Value:
        e, b = self.e, self.e.b
        index = b.add(b.mul(span.kv_head, e.runs), b.add(b.udiv(span.origin, number(SIDE)), run))
        return e.at(e.laid, index, 2 * SIDE * self.size)

    def _begin(self, queries: Value) -> None:
        """Queries as columns; nothing summed yet."""
        e = self.e
        for half in range(2):
            for first in range(0, self.size, COLUMNS):
                rows = [e.b.add(queries, number(2 * (self.size * (LANES * half + i) + first))) for i in range(LANES)]
                for index, line in enumerate(transposed(e, [e.load(row, VI32, 2) for row in rows])):
                    e.store(line, e.b.add(self.queries, number(LINE * (first + 2 * index + half))), LINE)

        def clear(i: Value, _: list[Value]) -> list[Value]:
            e.store(constant(VF32, 0.0), e.at(self.sums, i, LINE), LINE)
            return []

        e.loop(number(0), number(2 * self.size), [], clear)
        self.weighing.begin()

    def _score(self, span: Span, run: Value) -> None:
        """Products of the keys of a run with the queries."""
        e, b, row = self.e, self.e.b, 2 * self.size
        last = b.add(span.origin, b.mul(b.add(run, number(1)), number(SIDE)))
        whole = b.icmp_signed("<=", last, e.end)
        at = b.select(whole, self._keys(span, run), e.at(e.last_keys, span.kv_head, SIDE * row))
        right = Factor(self.queries, number(LINE), number(2 * LINE), number(2 * TILE))
        self.tiles.clear()
        self.tiles.add(number(self.size // COLUMNS), Factor(at, number(LANES * row), number(row), number(LINE)), right)
        self.tiles.store(self.weighing.scores, number(2 * LINE))

    def _mix(self, values: Value, weights: Value, runs: Value) -> None:
        """Add the weighted values of so many runs to the sums."""
        right = Factor(weights, number(LINE), number(2 * LINE), number(2 * TILE))
        for first in range(0, self.size, SIDE):
            square, row = self.e.b.add(self.sums, number(2 * LINE * first)), number(2 * LINE)
            at = self.e.b.add(values, number(LINE * first))
            self.tiles.load(square, row)
            self.tiles.add(runs, Factor(at, number(TILE), number(LINE), number(LINE * self.size)), right)
            self.tiles.store(square, row)

    def _finish(self, out: Value) -> None:
        """The sums over the totals, as rows of queries."""
        e, row = self.e, self.e.b.mul(self.e.heads, number(2 * self.size))
        totals = self.weighing.totals()
        for half in range(2):
            share = e.b.fdiv(constant(VF32, 1.0), totals[half])
            for first in range(0, self.size, COLUMNS):
                lines = [e.at(self.sums, number(first + i), 2 * LINE, LINE * half) for i in range(COLUMNS)]
                values = [e.b.fmul(e.load(line, VF32, LINE), share) for line in lines]
                words = [paired(e, *values[i : i + 2]) for i in range(0, COLUMNS, 2)]
                for index, line in enumerate(transposed(e, words)):
                    target = e.b.add(out, e.b.mul(number(LANES * half + index), row))
                    e.store(line, e.b.add(target, number(2 * first)), 2)
