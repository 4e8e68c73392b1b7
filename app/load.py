"""How much of the processor the program itself takes. Free of Qt."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic

import psutil

from core.environment import cores

_SHORTEST = 0.1  # seconds that are told apart: the system counts the processor's time in hundredths


class Load:
    """The share of the cores' time, of those that this process may use, that its processes took between two `measure`s.

    What other programs take does not count: it is not the window's to spare.
    """

    def __init__(self) -> None:
        self.share = 0.0
        self._taken: dict[psutil.Process, float] = {}  # seconds of each process since its start
        self._at = monotonic()

    def measure(self, pids: Sequence[int]) -> None:
        """Begin anew; `share` is of the time since the last call, of the processes that were there then as well."""
        now, before = monotonic(), self._taken
        self._taken = dict(filter(None, map(_taken, pids)))
        spent = sum(seconds - before[process] for process, seconds in self._taken.items() if process in before)
        self.share = spent / max(now - self._at, _SHORTEST) / cores()
        self._at = now


def _taken(pid: int) -> tuple[psutil.Process, float] | None:
    """None for a process that has ended."""
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return None
    return process, times.user + times.system
