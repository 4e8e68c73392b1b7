"""The slots that rows of a pass see of a pattern of positions, as compiled attention takes them."""

from __future__ import annotations

import numpy as np

from core.attention.mask import Pattern


class Choices:
    """Room for what rows choose themselves: as the table of `Lists`, for as many slots as there are positions before `end`.

    Rows go one by one, so all of them share the slots of a KV head.
    """

    def __init__(self, end: int, rows: int, kv_heads: int) -> None:
        self._slots = np.empty((kv_heads, end), np.int64)
        self.table = np.zeros((rows, kv_heads, 2), np.int64)
        self.table[:, :, 0] = [head.ctypes.data for head in self._slots]


class Lists:
    """For rows at positions first, first + 1, … over a cache whose slots are positions.

    table int64 [rows, G, 2]: the address of the slots int64 [n] that a row sees of a KV head, in rising order, and n.
    """

    def __init__(self, pattern: Pattern, first: int, rows: int, kv_heads: int) -> None:
        self._kept: list[np.ndarray] = []
        self.table = np.zeros((rows, kv_heads, 2), np.int64)
        for row in range(rows):
            seen = pattern.allowed(np.array([first + row]), np.arange(first + row + 1))
            lists = [np.flatnonzero(one) for one in seen.reshape(-1, first + row + 1)]
            self._kept += lists
            self.table[row] = [(slots.ctypes.data, len(slots)) for slots in lists]  # one list may be that of all heads
