"""Full causal attention of a prompt on the processor's matrix tiles, in bfloat16 with a softmax in float32.

Values are first laid out as tiles. Then 32 queries at a time, one in each lane of two vectors, take blocks of keys in turn:
scores, their softmax and the weighted values of a block stay in a thread's nearest caches, and what came before is scaled as
the highest score rises (online softmax, Dao et al. 2022, FlashAttention, arXiv 2205.14135). Blocks begin at fixed slots, so a
query comes out the same whatever rows are computed with it. Keys may be there in two forms side by side, see `Sides`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf

import numpy as np
import torch
from llvmlite import ir
from torch import Tensor

from core.attention.laying import LAY_ARGUMENTS, lay_kernel
from core.attention.sides import Edges
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
_MOST = 2.0**40  # of a run's weights
GROUP = 4  # runs whose weighted values are summed together
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
    return SIDE * (4 * SIDE + 2 * GROUP * SIDE + 4 * size + 2 * size + 12)


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
        self.weights = e.b.add(self.scores, number(4 * SIDE * SIDE))  # words of two slots [slots / 2, queries]
        self.sums = e.b.add(self.weights, number(2 * SIDE * GROUP * SIDE))  # float32 [D, queries]
        self.queries = e.b.add(self.sums, number(4 * SIDE * size))  # words of two columns [D / 2, queries]
        self.peaks = e.b.add(self.queries, number(2 * SIDE * size))  # float32 [queries]
        self.totals, self.run_totals = (e.b.add(self.peaks, number(2 * LINE * i)) for i in (1, 2))

    def emit(self) -> None:
        self.tiles.configure(self.e.config)
        self.e.loop(self.e.first, self.e.items, [], lambda item, _: self._item(item), step=self.e.step)
        self.tiles.release()

    def _item(self, item: Value) -> list[Value]:
        e, b = self.e, self.e.b
        n=b.udiv(e.items,e.heads); head, row = b.udiv(item, n), b.mul(b.urem(item, n), number(SIDE))
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
        """Add the slots of a span, a few runs at a time, which begin at fixed slots."""
        e, b = self.e, self.e.b
        first, stop = (b.udiv(b.add(slot, number(more)), number(SIDE)) for slot, more in ((span.first, 0), (span.stop, SIDE - 1)))

        def group(index: Value, _: list[Value]) -> list[Value]:
            begin = b.select(b.icmp_signed("<", index, first), first, index)
            end = e.least(b.add(index, number(GROUP)), stop)
            e.loop(begin, end, [], lambda run, _: self._run(span, run))
            self._mix(self._values_of(span, begin), self._weights_of(begin), b.sub(end, begin))
            return []

        e.loop(b.and_(first, number(-GROUP)), stop, [], group, step=GROUP)

    def _run(self, span: _Span, run: Value) -> list[Value]:
        self._score(span, run)
        self._weigh(span, run)
        return []

    def _keys_of(self, span: _Span, run: Value) -> Value:
        e, b = self.e, self.e.b
        slot = b.add(span.origin, b.mul(run, number(SIDE)))
        return e.at(e.keys, b.add(b.mul(span.kv_head, e.capacity), slot), 2 * self.size)

    def _values_of(self, span: _Span, run: Value) -> Value:
        e, b = self.e, self.e.b
        index = b.add(b.mul(span.kv_head, e.runs), b.add(b.udiv(span.origin, number(SIDE)), run))
        return e.at(e.laid, index, 2 * SIDE * self.size)

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

    def _weights_of(self, run: Value) -> Value:
        return self.e.at(self.weights, self.e.b.and_(run, number(GROUP - 1)), 2 * SIDE * SIDE)

    def _score(self, span: _Span, run: Value) -> None:
        """Products of the keys of a run with the queries."""
        e, b, row = self.e, self.e.b, 2 * self.size
        last = b.add(span.origin, b.mul(b.add(run, number(1)), number(SIDE)))
        whole = b.icmp_signed("<=", last, e.end)
        at = b.select(whole, self._keys_of(span, run), e.at(e.last_keys, span.kv_head, SIDE * row))
        right = Factor(self.queries, number(LINE), number(2 * LINE), number(2 * TILE))
        self.tiles.clear()
        self.tiles.add(number(self.size // COLUMNS), Factor(at, number(LANES * row), number(row), number(LINE)), right)
        self.tiles.store(self.scores, number(2 * LINE))

    def _weigh(self, span: _Span, run: Value) -> None:
        """Weights of the scores of a run."""
        e, b = self.e, self.e.b
        self._hide(span, b.mul(run, number(SIDE)))
        unset = [b.fcmp_ordered("==", each, constant(VF32, _NOTHING)) for each in self._pair(self.peaks)]
        with b.if_then(self._some(unset)):
            self._raise(unset)
        asked = self._values_of(span, run), self._keys_of(span, b.add(run, number(1)))
        self._store_pair(self._powers(self._weights_of(run), asked), self.run_totals)
        over = [b.fcmp_ordered(">", each, constant(VF32, _MOST)) for each in self._pair(self.run_totals)]
        with b.if_then(self._some(over)):
            self._lower(self._raise(over))
            self._store_pair(self._powers(self._weights_of(run), ()), self.run_totals)
        self._store_pair(self._both(b.fadd, self._pair(self.totals), self._pair(self.run_totals)), self.totals)

    def _both(self, change: Callable[..., Value], *pairs: tuple[Value, Value]) -> tuple[Value, Value]:
        first, second = (change(*each) for each in zip(*pairs, strict=True))
        return first, second

    def _some(self, queries: list[Value]) -> Value:
        """Whether there are any."""
        b, kind = self.e.b, ir.IntType(LANES)
        return b.icmp_unsigned("!=", b.or_(*(b.bitcast(each, kind) for each in queries)), ir.Constant(kind, 0))

    def _powers(self, weights: Value, asked: Sequence[Value]) -> tuple[Value, Value]:
        """Weights of a run, two slots at a time; returns their totals.

        asked: rows of a run each that are needed soon.
        """
        e, b = self.e, self.e.b
        shifts = self._both(b.fneg, self._pair(self.peaks))

        def two(i: Value, totals: list[Value]) -> list[Value]:
            for address in asked:
                self.tiles.ask(e.at(address, i, 4 * self.size), 4 * self.size)
            slots = [self._pair(e.at(self.scores, i, 4 * LINE, 2 * LINE * slot)) for slot in range(2)]
            words = [[exp2_bfloat(e, e.fma(x, self.scale, shift)) for x, shift in zip(slot, shifts, strict=True)] for slot in slots]
            for half, (even, odd) in enumerate(zip(*words, strict=True)):
                word = b.or_(b.lshr(even, constant(VI32, 16)), odd)
                e.store(word, e.at(weights, i, 2 * LINE, LINE * half), LINE)
            sums = [b.fadd(*(b.bitcast(each, VF32) for each in both)) for both in zip(*words, strict=True)]
            return [b.fadd(*each) for each in zip(totals, sums, strict=True)]

        totals = e.loop(number(0), number(LANES), [constant(VF32, 0.0)] * 2, two)
        return totals[0], totals[1]

    def _raise(self, queries: list[Value]) -> tuple[Value, Value]:
        """Measure the weights of these queries by the highest scores of a run; returns by which powers those before differ."""
        e, b = self.e, self.e.b

        def two(i: Value, peaks: list[Value]) -> list[Value]:
            values = [x for slot in range(2) for x in self._pair(e.at(self.scores, i, 4 * LINE, 2 * LINE * slot))]
            return [e.highest(*each) for each in zip(values, peaks, strict=True)]

        lowest = constant(VF32, _NOTHING)
        peaks = e.loop(number(0), number(LANES), [lowest] * 4, two)
        found = [e.unary("ceil", b.fmul(e.highest(peaks[half], peaks[half + 2]), self.scale)) for half in range(2)]
        before = self._pair(self.peaks)
        now = self._both(b.select, (queries[0], queries[1]), self._both(lambda x: e.highest(x, lowest), (found[0], found[1])), before)
        self._store_pair(now, self.peaks)
        return self._both(b.fsub, before, now)

    def _lower(self, powers: tuple[Value, Value]) -> None:
        """What there is of sums, totals and weights is multiplied by these powers of two."""
        e, b = self.e, self.e.b

        def line(i: Value, _: list[Value]) -> list[Value]:
            at = e.at(self.sums, i, 2 * LINE)
            self._store_pair(self._both(lambda *x: scaled(e, *x), self._pair(at), powers), at)
            return []

        def words(i: Value, _: list[Value]) -> list[Value]:
            for half, power in enumerate(powers):
                at = e.at(self.weights, i, 2 * LINE, LINE * half)
                word, upper = e.load(at, VI32, LINE), constant(VI32, 0xFFFF0000)
                parts = (b.bitcast(part, VF32) for part in (b.shl(word, constant(VI32, 16)), b.and_(word, upper)))
                even, odd = (b.bitcast(scaled(e, part, power), VI32) for part in parts)
                e.store(b.or_(b.lshr(even, constant(VI32, 16)), b.and_(odd, upper)), at, LINE)
            return []

        e.loop(number(0), number(self.size), [], line)
        e.loop(number(0), number(GROUP * LANES), [], words)
        self._store_pair(self._both(lambda *x: scaled(e, *x), self._pair(self.totals), powers), self.totals)

    def _hide(self, span: _Span, first: Value) -> None:
        """What a query does not see of a run, from slot `first` of the span on, becomes the lowest of all."""
        e, b, hidden = self.e, self.e.b, constant(VF32, -inf)

        def one(i: Value, _: list[Value]) -> list[Value]:
            address, place = e.at(self.scores, i, 2 * LINE), self._spread(b.add(first, i))
            values = []
            for half, x in enumerate(self._pair(address)):
                above, below = b.icmp_signed(">=", place, span.low[half]), b.icmp_signed("<", place, span.high[half])
                values.append(b.select(b.and_(above, below), x, hidden))
            self._store_pair((values[0], values[1]), address)
            return []

        seen = b.and_(b.icmp_signed(">=", first, span.whole), b.icmp_signed("<=", b.add(first, number(SIDE)), span.part))
        with b.if_then(b.not_(seen)):
            e.loop(number(0), number(SIDE), [], one)

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
