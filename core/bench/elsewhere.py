"""How busy the machine was with other things while it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import psutil

from core.bench.child import Child

QUIET = 0.1  # the most that others may take for a measurement to count as undisturbed


class Elsewhere:
    """From its making on. children: those that live at its end, with the ones that came later."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children
        self._began, self._busy, self._own = perf_counter(), _busy(), self._spent()

    def share(self) -> float:
        """The share of all processors' time that neither this process nor the children took.

        It counts what the host of a virtual machine took away, where the system tells.
        """
        others = _busy() - self._busy - (self._spent() - self._own)
        return float(max(0.0, others) / (psutil.cpu_count() * (perf_counter() - self._began)))

    def _spent(self) -> float:
        return sum(map(_spent, [psutil.Process().pid, *(child.pid for child in self._children)]))


def _busy() -> float:
    """Seconds that all processors together were busy."""
    times = psutil.cpu_times()._asdict()
    apart = ("idle", "iowait", "guest", "guest_nice")  # guest time is part of user time already
    return float(sum(seconds for name, seconds in times.items() if name not in apart))


def _spent(pid: int) -> float:
    """Processor seconds of a process; none of one that has ended."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
