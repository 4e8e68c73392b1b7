"""Full causal attention of a prompt on the processor's matrix tiles, in bfloat16 with a softmax in float32.

Values are first laid out as tiles. Then 32 queries at a time, one in each lane of two vectors, take blocks of keys in turn:
scores, their softmax and the weighted values of a block stay in a thread's nearest caches, and what came before is scaled as
the highest score rises (online softmax, Dao et al. 2022, FlashAttention, arXiv 2205.14135). Blocks begin at fixed slots, so a
query comes out the same whatever rows are computed with it. Keys may be there in two forms side by side, see `Sides`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import inf

import numpy as np
import torch
from llvmlite import ir
from torch import Tensor

from core.attention.laying import LAY_ARGUMENTS, lay_kernel
from core.attention.sides import BLOCK, Edges
from core.compiled.arithmetic import exp2_bfloat, scaled
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
_NOTHING = -(2.0**100)  # the peak of a query that has seen nothing: its products with a scale are not rounded
_MOST = 2.0**40  # of a block's weights
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
    """Of scores, weights, sums, queries and statistics."""
    return SIDE * (4 * BLOCK + 2 * BLOCK + 4 * size + 2 * size + 12)


@cache
def tiled_attention(size: int) -> int:
    """The address of the compiled attention.

    Called with: the address of queries [H, padded, D], padded; the address of keys [G, capacity, D], their capacity;
    addresses of what `lay_kernel` wrote, of the attention [padded, H, D], of room and of the configuration of tiles; H, the
    query heads of a KV head, runs a head; the number of slots; what `Edges` holds and the slots from its turn to the first
    query's own; the bits of the float32 that scores are multiplied by for powers of two; the first item, the step to the next
    and their number. Item i is head i mod H of the queries from ⌊i / H⌋ · SIDE on.
    """
    e = Emitter(f"tiled_attention_{size}", _ATTEND)
    _Attention(e, size).emit()
    return e.finish()


@dataclass(frozen=True)
class _Span:
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


class _Attention:
    def __init__(self, e: Emitter, size: int) -> None:
        self.e, self.size, self.tiles = e, size, Tiles(e)
        self.scale = e.spread(e.float_argument(e.scale_bits))
        self.scores = e.room  # float32 [slots, queries]
        self.weights = e.b.add(self.scores, number(4 * SIDE * BLOCK))  # words of two slots [slots / 2, queries]
        self.sums = e.b.add(self.weights, number(2 * SIDE * BLOCK))  # float32 [D, queries]
        self.queries = e.b.add(self.sums, number(4 * SIDE * size))  # words of two columns [D / 2, queries]
        self.peaks = e.b.add(self.queries, number(2 * SIDE * size))  # float32 [queries]
        self.totals, self.block_totals = (e.b.add(self.peaks, number(2 * LINE * i)) for i in (1, 2))

    def emit(self) -> None:
        self.tiles.configure(self.e.config)
        self.e.loop(self.e.first, self.e.items, [], lambda item, _: self._item(item), step=self.e.step)
        self.tiles.release()

    def _item(self, item: Value) -> list[Value]:
        e, b = self.e, self.e.b
        head, row = b.urem(item, e.heads), b.mul(b.udiv(item, e.heads), number(SIDE))
        self._begin(e.at(e.queries, b.add(b.mul(head, e.padded), row), 2 * self.size))
        kv_head, seen = b.udiv(head, e.shared), b.add(e.past, row)  # slots before the first query
        edges = [e.load(e.at(e.edges, row, 4, LINE * half), VI32, 4) for half in range(2)]
        before, after = (b.sext(e.load(e.at(e.edges, row, 4, 4 * i), I32, 4), I64) for i in (0, SIDE - 1))
        never = [constant(VI32, 0)] * 2
        self._span(_Span(kv_head, number(0), number(0), after, number(0), before, never, edges))
        start, stop = b.sub(before, e.base), e.least(b.add(seen, number(SIDE)), b.sub(e.end, e.turn))
        low = [b.sub(edge, self._spread(e.base)) for edge in edges]
        first = self._spread(seen)
        high = [b.add(first, ir.Constant(VI32, list(range(LANES * half + 1, LANES * half + LANES + 1)))) for half in range(2)]
        whole = b.sub(after, e.base), b.add(seen, number(1))
        self._span(_Span(kv_head, e.turn, b.and_(start, number(-SIDE)), stop, *whole, low, high))
        self._finish(e.at(e.out, b.add(b.mul(row, e.heads), head), 2 * self.size))
        return []

    def _spread(self, value: Value) -> Value:
        return self.e.spread(self.e.b.trunc(value, I32))

    def _span(self, span: _Span) -> None:
        """Add the slots of a span, block by block."""
        e, b = self.e, self.e.b

        def block(begin: Value, _: list[Value]) -> list[Value]:
            first = b.select(b.icmp_signed("<", begin, span.first), span.first, begin)
            stop = e.least(b.add(begin, number(BLOCK)), span.stop)
            runs = b.udiv(b.add(b.sub(stop, first), number(SIDE - 1)), number(SIDE))
            slot = b.add(span.origin, first)
            self._score(span.kv_head, slot, runs)
            self._weigh(span, first, b.mul(runs, number(LANES)))
            run = b.add(b.mul(span.kv_head, e.runs), b.udiv(slot, number(SIDE)))
            self._mix(e.at(e.laid, run, 2 * SIDE * self.size), runs)
            return []

        e.loop(b.and_(span.first, number(-BLOCK)), span.stop, [], block, step=BLOCK)

    def _pair(self, address: Value) -> tuple[Value, Value]:
        """Two vectors of sixteen queries."""
        first, second = (self.e.load(self.e.b.add(address, number(LINE * half)), VF32, LINE) for half in range(2))
        return first, second

    def _store_pair(self, values: tuple[Value, Value], address: Value) -> None:
        for half, value in enumerate(values):
            self.e.store(value, self.e.b.add(address, number(LINE * half)), LINE)

    def _begin(self, queries: Value) -> None:
        """Queries as columns; nothing summed yet."""
        e = self.e
        for half in range(2):
            for first in range(0, self.size, COLUMNS):
                rows = [e.b.add(queries, number(2 * (self.size * (LANES * half + i) + first))) for i in range(LANES)]
                for index, line in enumerate(transposed(e, [e.load(row, VI32, 2) for row in rows])):
                    e.store(line, e.b.add(self.queries, number(LINE * (first + 2 * index + half))), LINE)
        zeros, lowest = constant(VF32, 0.0), constant(VF32, _NOTHING)

        def clear(i: Value, _: list[Value]) -> list[Value]:
            self._store_pair((zeros, zeros), e.at(self.sums, i, 2 * LINE))
            return []

        e.loop(number(0), number(self.size), [], clear)
        self._store_pair((lowest, lowest), self.peaks)
        self._store_pair((zeros, zeros), self.totals)

    def _score(self, kv_head: Value, first: Value, runs: Value) -> None:
        """Products of the keys of so many runs with the queries."""
        e, b, row = self.e, self.e.b, 2 * self.size
        keys = e.at(e.keys, b.add(b.mul(kv_head, e.capacity), first), row)
        last = e.at(e.last_keys, kv_head, SIDE * row)
        right = Factor(self.queries, number(LINE), number(2 * LINE), number(2 * TILE))

        def run(index: Value, _: list[Value]) -> list[Value]:
            ends = b.add(first, b.mul(b.add(index, number(1)), number(SIDE)))
            at = b.select(b.icmp_signed("<=", ends, e.end), e.at(keys, index, SIDE * row), last)
            self.tiles.clear()
            self.tiles.ask(e.at(keys, b.add(index, number(1)), SIDE * row), SIDE * row)
            self.tiles.add(number(self.size // COLUMNS), Factor(at, number(LANES * row), number(row), number(LINE)), right)
            self.tiles.store(e.at(self.scores, index, 4 * SIDE * SIDE), number(2 * LINE))
            return []

        e.loop(number(0), runs, [], run)

    def _weigh(self, span: _Span, first: Value, pairs: Value) -> None:
        """Weights of the scores of a block, which begins at slot `first` of the span."""
        e, b = self.e, self.e.b
        self._hide(span, first, pairs)
        unset = [b.fcmp_ordered("==", each, constant(VF32, _NOTHING)) for each in self._pair(self.peaks)]
        with b.if_then(self._some(unset)):
            self._raise(unset, pairs)
        self._powers(pairs)
        over = [b.fcmp_ordered(">", each, constant(VF32, _MOST)) for each in self._pair(self.block_totals)]
        with b.if_then(self._some(over)):
            self._raise(over, pairs)
            self._powers(pairs)
        self._store_pair(self._both(b.fadd, self._pair(self.totals), self._pair(self.block_totals)), self.totals)

    def _both(self, change: Callable[..., Value], *pairs: tuple[Value, Value]) -> tuple[Value, Value]:
        first, second = (change(*each) for each in zip(*pairs, strict=True))
        return first, second

    def _some(self, queries: list[Value]) -> Value:
        """Whether there are any."""
        b, kind = self.e.b, ir.IntType(LANES)
        return b.icmp_unsigned("!=", b.or_(*(b.bitcast(each, kind) for each in queries)), ir.Constant(kind, 0))

    def _powers(self, pairs: Value) -> None:
        """Weights, two slots at a time, and their totals."""
        e, b = self.e, self.e.b
        shifts = self._both(b.fneg, self._pair(self.peaks))

        def two(i: Value, totals: list[Value]) -> list[Value]:
            slots = [self._pair(e.at(self.scores, i, 4 * LINE, 2 * LINE * slot)) for slot in range(2)]
            words = [[exp2_bfloat(e, e.fma(x, self.scale, shift)) for x, shift in zip(slot, shifts, strict=True)] for slot in slots]
            for half, (even, odd) in enumerate(zip(*words, strict=True)):
                word = b.or_(b.lshr(even, constant(VI32, 16)), odd)
                e.store(word, e.at(self.weights, i, 2 * LINE, LINE * half), LINE)
            sums = [b.fadd(*(b.bitcast(each, VF32) for each in both)) for both in zip(*words, strict=True)]
            return [b.fadd(*each) for each in zip(totals, sums, strict=True)]

        totals = e.loop(number(0), pairs, [constant(VF32, 0.0)] * 2, two)
        self._store_pair((totals[0], totals[1]), self.block_totals)

    def _raise(self, queries: list[Value], pairs: Value) -> None:
        """The exponents of these queries' highest scores in the block for those that weights were measured by."""
        e, b = self.e, self.e.b

        def two(i: Value, peaks: list[Value]) -> list[Value]:
            values = [x for slot in range(2) for x in self._pair(e.at(self.scores, i, 4 * LINE, 2 * LINE * slot))]
            return [e.highest(*each) for each in zip(values, peaks, strict=True)]

        lowest = constant(VF32, _NOTHING)
        peaks = e.loop(number(0), pairs, [lowest] * 4, two)
        found = [e.unary("ceil", b.fmul(e.highest(peaks[half], peaks[half + 2]), self.scale)) for half in range(2)]
        before = self._pair(self.peaks)
        peaks = [b.select(*each) for each in zip(queries, (e.highest(x, lowest) for x in found), before, strict=True)]
        self._store_pair((peaks[0], peaks[1]), self.peaks)
        lower = self._both(b.fsub, before, (peaks[0], peaks[1]))

        def line(i: Value, _: list[Value]) -> list[Value]:
            at = e.at(self.sums, i, 2 * LINE)
            self._store_pair(self._both(lambda *x: scaled(e, *x), self._pair(at), lower), at)
            return []

        e.loop(number(0), number(self.size), [], line)
        self._store_pair(self._both(lambda *x: scaled(e, *x), self._pair(self.totals), lower), self.totals)

    def _hide(self, span: _Span, first: Value, pairs: Value) -> None:
        """What a query does not see becomes the lowest of all."""
        e, b, hidden = self.e, self.e.b, constant(VF32, -inf)

        def two(i: Value, _: list[Value]) -> list[Value]:
            for slot in range(2):
                address = e.at(self.scores, i, 4 * LINE, 2 * LINE * slot)
                place = self._spread(b.add(first, b.add(b.mul(i, number(2)), number(slot))))
                values = []
                for half, x in enumerate(self._pair(address)):
                    above, below = b.icmp_signed(">=", place, span.low[half]), b.icmp_signed("<", place, span.high[half])
                    values.append(b.select(b.and_(above, below), x, hidden))
                self._store_pair((values[0], values[1]), address)
            return []

        begin = self._clamped(b.ashr(b.add(b.sub(span.whole, first), number(1)), number(1)), number(0), pairs)
        end = self._clamped(b.ashr(b.sub(span.part, first), number(1)), begin, pairs)
        e.loop(number(0), begin, [], two)
        e.loop(end, pairs, [], two)

    def _clamped(self, value: Value, least: Value, most: Value) -> Value:
        b = self.e.b
        return self.e.least(b.select(b.icmp_signed("<", value, least), least, value), most)

    def _mix(self, values: Value, runs: Value) -> None:
        """Add the weighted values of this block to the sums."""
        right = Factor(self.weights, number(LINE), number(2 * LINE), number(2 * TILE))
        for first in range(0, self.size, SIDE):
            square, row = self.e.b.add(self.sums, number(2 * LINE * first)), number(2 * LINE)
            at = self.e.b.add(values, number(LINE * first))
            self.tiles.load(square, row)
            self.tiles.add(runs, Factor(at, number(TILE), number(LINE), number(LINE * self.size)), right, ahead=2 * TILE)
            self.tiles.store(square, row)

    def _finish(self, out: Value) -> None:
        """The sums over the totals, as rows of queries."""
        e, row = self.e, self.e.b.mul(self.e.heads, number(2 * self.size))
        totals = self._pair(self.totals)
        for half in range(2):
            share = e.b.fdiv(constant(VF32, 1.0), totals[half])
            for first in range(0, self.size, COLUMNS):
                lines = [e.at(self.sums, number(first + i), 2 * LINE, LINE * half) for i in range(COLUMNS)]
                values = [e.b.fmul(e.load(line, VF32, LINE), share) for line in lines]
                words = [paired(e, *values[i : i + 2]) for i in range(0, COLUMNS, 2)]
                for index, line in enumerate(transposed(e, words)):
                    target = e.b.add(out, e.b.mul(number(LANES * half + index), row))
                    e.store(line, e.b.add(target, number(2 * first)), 2)
