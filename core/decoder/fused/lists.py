"""The slots that rows of a pass see, as compiled attention takes them.

A table int64 [rows, lists, 3] has of each list the address of its slots int64 [n], in rising order, n, and the address of their
scores float32 [n] where these are known, else 0. There is a list of each KV head, for all queries that share it, or of each
query head. Tables are for rows at positions first, first + 1, … over a cache whose slots are positions.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from core.attention.mask import Pattern
from core.compiled.emitter import LANES
from core.weights.kernel import MOST_ROWS


class Memory:
    """Arrays that stay from pass to pass: the system would clear new ones."""

    def __init__(self) -> None:
        self._arrays: dict[Hashable, np.ndarray] = {}

    def array(self, name: Hashable, rows: int, columns: int, dtype: type) -> np.ndarray:
        """The one of this name, with whatever is in it."""
        if name not in self._arrays or self._arrays[name].size < rows * columns:
            self._arrays[name] = np.empty(2 * rows * columns, dtype)
        return self._arrays[name][: rows * columns].reshape(rows, columns)


class Choices:
    """Room for what rows choose themselves: for as many slots as there are positions before `end`, and one that is tried.

    Rows go one by one, so all of them share the slots of a list.
    """

    room = 0

    def __init__(self, end: int, rows: int, lists: int, memory: Memory) -> None:
        slots = memory.array(("slots", lists), lists, end + 1, np.int64)
        self.table = np.zeros((rows, lists, 3), np.int64)
        self.table[:, :, 0] = slots.ctypes.data + slots.strides[0] * np.arange(lists)


class Ranks:
    """Room for the scores of all keys, and for the `best` slots of each query head.

    Groups of MOST_ROWS rows share it. Lines are in the order of queries: by KV head, row and query head. room: of a line.
    """

    def __init__(self, best: int, first: int, rows: int, query_heads: int, kv_heads: int, memory: Memory) -> None:
        end, lines, shared = first + rows, query_heads * min(rows, MOST_ROWS), query_heads // kv_heads
        self.room = (end + 2 * LANES) // LANES * LANES  # with what kernels overwrite after the last
        scores = memory.array(("scores", best, kv_heads), lines, self.room, np.float32)
        slots = memory.array(("best", best, kv_heads), lines, min(best, end), np.int64)
        row, head = np.arange(rows)[:, None], np.arange(query_heads)
        group = row // MOST_ROWS * MOST_ROWS
        line = (head // shared * np.minimum(MOST_ROWS, rows - group) + row - group) * shared + head % shared
        self.table = np.empty((rows, query_heads, 3), np.int64)
        self.table[..., 0] = slots.ctypes.data + slots.strides[0] * line
        self.table[..., 1] = np.minimum(best, first + row + 1)
        self.table[..., 2] = scores.ctypes.data + scores.strides[0] * line


class Lists:
    """Those of a pattern of positions. table: as in `Slots`."""

    room = 0

    def __init__(self, pattern: Pattern, first: int, rows: int, kv_heads: int, table: np.ndarray | None) -> None:
        self._kept: list[np.ndarray] = []
        self.table = np.zeros((rows, kv_heads, 3), np.int64)
        for row in range(rows):
            seen = pattern.allowed(np.array([first + row]), np.arange(first + row + 1))
            lists = [np.flatnonzero(one) for one in seen.reshape(-1, first + row + 1)]
            if table is not None:
                lists = [table[slots] for slots in lists]
            self._kept += lists
            self.table[row] = [(slots.ctypes.data, len(slots), 0) for slots in lists]  # one list may be that of all heads


Listed = Choices | Ranks | Lists
