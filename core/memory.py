"""The highest resident memory of one run, where the system lets it be measured."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path
from typing import Protocol

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def settle() -> None:
    """After loading: what is resident now stays, so the collector of cycles need not walk it in the middle of a run."""
    gc.collect()
    gc.freeze()


def give_back() -> None:
    """After letting go of a model: return its memory to the system."""
    gc.unfreeze()
    gc.collect()
    _trim()


def _trim() -> None:
    """Make the allocator return what it keeps in reserve, so that resident memory is what is in use."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


class Peak(Protocol):
    """The peak of memory since the making of this; None where the platform does not tell."""

    def bytes(self) -> int | None:
        """Highest memory in use."""

    def working(self, kv: int) -> int | None:
        """What of it a run with `kv` bytes of keys and values took beyond these and what was there before."""


class PeakMemory:
    """From its making on: the peak of resident memory, and how much of it is working memory. None off Linux."""

    def __init__(self) -> None:
        _trim()
        self._supported = _reset()
        self._before = _kilobytes() if self._supported else {}

    def bytes(self) -> int | None:
        """Highest resident memory of the process."""
        return _kilobytes()["VmHWM"] * 1024 if self._supported else None

    def working(self, kv: int) -> int | None:
        """What the run took at its peak beyond what was there before, the pages of mapped files and the `kv` bytes."""
        if not self._supported:
            return None
        now = _kilobytes()
        mapped = now["RssFile"] - self._before["RssFile"]
        return max(0, (now["VmHWM"] - self._before["VmRSS"] - mapped) * 1024 - kv)


def _reset() -> bool:
    """Make the present resident memory the peak; False where the system cannot."""
    try:
        _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return {"VmHWM", "VmRSS", "RssFile"} <= _kilobytes().keys()


def _kilobytes() -> dict[str, int]:
    """The lines of the process status that count kilobytes."""
    pairs = (
        line.split(":") for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines() if line.endswith("kB")
    )
    return {name: int(value.split()[0]) for name, value in pairs}
