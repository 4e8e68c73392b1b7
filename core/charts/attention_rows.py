"""Captured attention as one map of positions, whole or growing pass by pass while a run is live."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from time import perf_counter

import numpy as np

from core.events import AttentionCaptured
from core.trace import Trace

MEAN = -1  # of all heads
MOST_CELLS = 2**21  # of a map; a larger one is kept in blocks
_AT_ONCE = 64  # passes of one shape that are placed together


@dataclass(frozen=True)
class Assembled:
    """values [T, S] of queries `first` … `end` − 1 over keys 0 … `end` − 1; NaN where nothing was captured.

    absent [T, S]: keys the query could not see although they came before it (evicted from the cache).
    block: positions a cell covers along each side. It then holds the largest weight, and is absent where all of it is; the
    first row begins at the last multiple of `block` up to `first`.
    """

    first: int
    end: int
    values: np.ndarray
    absent: np.ndarray
    block: int = 1

    def starts(self) -> tuple[np.ndarray, np.ndarray]:
        """The first query of each row [T] and the first key of each column [S]."""
        rows, columns = self.values.shape
        queries = (self.first // self.block + np.arange(rows)) * self.block
        return np.maximum(queries, self.first), np.arange(columns) * self.block


def assemble(maps: Sequence[AttentionCaptured], head: int, length: int) -> Assembled | None:
    """One map of the captures, in positions; later passes overwrite earlier ones. None when there is nothing to show."""
    trace = Trace(attention={0: list(maps)})
    return GrowingMap(trace, 0, head, None).update(length)


class GrowingMap:
    """The map of a layer and head of a trace that grows: each call places only the passes that are new.

    step None is every pass, −1 the prefill. The arrays of a result are views of a buffer that the next call may write to.
    """

    def __init__(self, trace: Trace, layer: int, head: int, step: int | None) -> None:
        self.trace, self.of = trace, (layer, head, step)
        self._first = self._end = self._taken = 0
        self._block, self._lost = 1, False
        self._values, self._held = _blank(0, 0)

    @property
    def complete(self) -> bool:
        """Whether every pass there is has been placed."""
        return self._taken == len(self.trace.attention.get(self.of[0], ()))

    def update(self, length: int | None = None, most: float = math.inf) -> Assembled | None:
        """The map as far as the trace goes, or up to position `length`; None when there is nothing to show.

        most: seconds after which passes are left for the next call.
        """
        layer, head, step = self.of
        until = perf_counter() + most
        for _, alike in groupby(self.trace.attention.get(layer, [])[self._taken :], lambda one: one.weights.shape):
            while passes := list(islice(alike, _AT_ONCE)):
                self._taken += len(passes)
                fitting = [one for one in passes if step in (None, one.step) and head < len(one.weights) and one.weights.size]
                if fitting:
                    self._add(fitting, head)
                if perf_counter() > until:
                    return self._assembled(length)
        return self._assembled(length)

    def _assembled(self, length: int | None) -> Assembled | None:
        end = min(self._end, len(self.trace.prompt_tokens) + len(self.trace.tokens) if length is None else length)
        if end <= self._first:
            return None
        cells = slice(0, self._rows(end)), slice(0, -(-end // self._block))
        values = self._values[cells]
        absent = np.isfinite(values) & ~self._held[cells] if self._lost else np.broadcast_to(np.False_, values.shape)
        return Assembled(self._first, end, values, absent, self._block)

    def _rows(self, end: int) -> int:
        """Rows up to position `end`."""
        return -(-end // self._block) - self._first // self._block

    def _add(self, passes: Sequence[AttentionCaptured], head: int) -> None:
        """Place passes of one shape."""
        firsts = [one.first_query for one in passes]
        if not self._end:
            self._first = min(firsts)
        if min(firsts) < self._first:
            self._shift(min(firsts))
        rows = passes[0].weights.shape[1]
        self._end = max(self._end, max(firsts) + rows)
        self._lost |= any(len(one.key_positions) < one.first_query + rows for one in passes)
        self._reserve()
        self._place(passes, head)

    def _shift(self, first: int) -> None:
        """Room for earlier queries than the first one so far."""
        rows = self._first // self._block - first // self._block
        values, held = _blank(rows, self._values.shape[1])
        self._values, self._held = np.vstack([values, self._values]), np.vstack([held, self._held])
        self._first = first

    def _reserve(self) -> None:
        """Room up to the last position, half as much again so that it is seldom made; coarser blocks where it is too much."""
        while self._rows(self._end) * -(-self._end // self._block) > MOST_CELLS:
            self._coarsen()
        rows, columns = self._rows(self._end), -(-self._end // self._block)
        if rows > self._values.shape[0] or columns > self._values.shape[1]:
            values, held = _blank(rows + rows // 2, columns + rows // 2)
            kept = tuple(slice(0, size) for size in self._values.shape)
            values[kept], held[kept] = self._values, self._held
            self._values, self._held = values, held

    def _coarsen(self) -> None:
        """Blocks of twice the size, which begin at multiples of it."""
        before = self._first // self._block % 2
        self._values = _halved(self._values, before, np.fmax, np.nan)
        self._held = _halved(self._held, before, np.logical_or, False)
        self._block *= 2

    def _place(self, passes: Sequence[AttentionCaptured], head: int) -> None:
        """Write the rows of passes of one shape. Keys that were not there carry no weight: 0, and not held."""
        stacked = np.stack([one.weights for one in passes])  # [passes, H, T, S]
        weights = stacked.mean(1, dtype=np.float32) if head == MEAN else stacked[:, head].astype(np.float32)
        queries = np.array([one.first_query for one in passes])[:, None] + np.arange(weights.shape[1])  # [passes, T]
        keys = np.stack([one.key_positions for one in passes])[:, None]  # [passes, 1, S]
        rows = queries // self._block - self._first // self._block
        for row, query in zip(rows.ravel().tolist(), queries.ravel().tolist()):
            past = self._values[row, : query // self._block + 1]
            np.fmax(past, np.float32(0), out=past) if self._block > 1 else past.fill(0)
        seen = (keys >= 0) & (keys <= queries[..., None])
        cells = (rows[..., None] * self._values.shape[1] + keys // self._block)[seen]
        np.maximum.at(self._values.reshape(-1), cells, weights[seen])
        self._held.reshape(-1)[cells] = True


def _blank(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((rows, columns), np.nan, np.float32), np.zeros((rows, columns), bool)


def _halved(cells: np.ndarray, before: int, fold: np.ufunc, filling: float) -> np.ndarray:
    """Two by two cells as one, by `fold`; `before` rows are missing of the first pair. Far faster than `fold.reduce`."""
    after = -(cells.shape[0] + before) % 2, -cells.shape[1] % 2
    cells = np.pad(cells, ((before, after[0]), (0, after[1])), constant_values=filling)
    rows = fold(cells[::2], cells[1::2])
    return np.asarray(fold(rows[:, ::2], rows[:, 1::2]))
