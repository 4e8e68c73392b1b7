"""Memory that compiled code works in, kept from call to call: fresh memory would cost as much as the work."""

from __future__ import annotations

import threading

import numpy as np

_LINE = 64  # bytes of the lines that the processor reads


class Room(threading.local):
    """Of each thread its own, which grows to the largest that was asked for."""

    def __init__(self) -> None:
        self._kept = np.empty(0, np.uint8)

    def bytes(self, count: int) -> np.ndarray:
        """[count] uint8 from the beginning of a line; the next call of this thread may give the same."""
        if len(self._kept) < count + _LINE:
            self._kept = np.empty(count + _LINE, np.uint8)
        first = -self._kept.ctypes.data % _LINE
        return self._kept[first : first + count]
