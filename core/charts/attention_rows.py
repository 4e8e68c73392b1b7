"""Captured attention as one map of positions, whole or growing pass by pass while a run is live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.attention.mask import FULL
from core.events import AttentionCaptured
from core.trace import Trace

MEAN = -1  # of all heads


@dataclass(frozen=True)
class Assembled:
    """values [T, S] of queries `first` … first + T − 1 over keys 0 … S − 1; NaN where nothing was captured.

    absent [T, S]: keys the query could not see although they came before it (evicted from the cache).
    """

    first: int
    values: np.ndarray
    absent: np.ndarray


def assemble(maps: Sequence[AttentionCaptured], head: int, length: int) -> Assembled | None:
    """One map of the captures, in positions; later passes overwrite earlier ones. None when there is nothing to show."""
    maps = [one for one in maps if one.first_query < length and one.weights.size and head < one.weights.shape[0]]
    if not maps:
        return None
    first = min(one.first_query for one in maps)
    rows = min(length, max(one.first_query + one.weights.shape[1] for one in maps)) - first
    values, absent = _blank(rows, first + rows)
    for one in maps:
        _place(one, head, first, values, absent)
    return Assembled(first, values, absent)


class GrowingMap:
    """What `assemble` gives, for a layer and head of a trace that grows: each call places only the passes that are new.

    step None is every pass, −1 the prefill. The arrays of a result are views of a buffer that the next call may write to.
    """

    def __init__(self, trace: Trace, layer: int, head: int, step: int | None) -> None:
        self.trace, self.of = trace, (layer, head, step)
        self._first, self._rows, self._taken = 0, 0, 0
        self._values, self._absent = _blank(0, 0)

    def update(self) -> Assembled | None:
        """The map as far as the trace goes; None when there is nothing to show."""
        layer, head, step = self.of
        maps = self.trace.attention.get(layer, [])
        for one in maps[self._taken :]:
            if step in (None, one.step) and head < one.weights.shape[0] and one.weights.size:
                self._add(one, head)
        self._taken = len(maps)
        rows = min(self._rows, len(self.trace.all_tokens) - self._first)
        block = slice(0, max(0, rows)), slice(0, self._first + rows)
        return Assembled(self._first, self._values[block], self._absent[block]) if rows > 0 else None

    def _add(self, one: AttentionCaptured, head: int) -> None:
        end = one.first_query + one.weights.shape[1]
        if not self._rows:
            self._first = one.first_query
        if one.first_query < self._first:
            self._shift(self._first - one.first_query)
        self._rows = max(self._rows, end - self._first)
        self._reserve(end)
        _place(one, head, self._first, self._values, self._absent)

    def _shift(self, rows: int) -> None:
        """Room for earlier queries than the first one so far."""
        values, absent = _blank(rows, self._values.shape[1])
        self._values, self._absent = np.vstack([values, self._values]), np.vstack([absent, self._absent])
        self._first, self._rows = self._first - rows, self._rows + rows

    def _reserve(self, end: int) -> None:
        """Room up to position `end`, doubled so that it is seldom made."""
        if end <= self._values.shape[1] and self._rows <= len(self._values):
            return
        values, absent = _blank(2 * self._rows, self._first + 2 * self._rows)
        kept = tuple(slice(0, size) for size in self._values.shape)
        values[kept], absent[kept] = self._values, self._absent
        self._values, self._absent = values, absent


def _blank(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((rows, columns), np.nan, np.float32), np.zeros((rows, columns), bool)


def _place(one: AttentionCaptured, head: int, first: int, values: np.ndarray, absent: np.ndarray) -> None:
    """Write the rows of one pass. Keys that were not there carry no weight: 0, and absent."""
    known = (one.key_positions >= 0) & (one.key_positions < values.shape[1])
    weights = one.weights.mean(0, dtype=np.float32) if head == MEAN else one.weights[head].astype(np.float32)
    start = one.first_query - first
    stop = min(start + len(weights), len(values))
    queries = np.arange(one.first_query, first + stop)
    past = FULL.allowed(queries, np.arange(values.shape[1]))
    values[start:stop] = np.where(past, np.float32(0), np.float32(np.nan))
    absent[start:stop] = past
    keys = one.key_positions[known]
    seen = FULL.allowed(queries, keys)
    values[start:stop, keys] = np.where(seen, weights[: stop - start, known], np.float32(np.nan))
    absent[start:stop, keys] = False
