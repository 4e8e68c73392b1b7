"""Reads recorded runs on a thread of its own, with progress and Stop, so that the window never waits for a disk. Free of Qt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import monotonic

from app.progress import Status
from core.charts.labelled import token_labels
from core.charts.latency_phases import stages
from core.errors import BadInput
from core.trace import Trace
from core.trace_file import Progress

Read = Callable[[Progress], Trace]
Show = Callable[[list[Trace]], object]


class _GivenUp(Exception):
    """Raised inside a read when the person pressed Stop."""


@dataclass
class _Opening:
    """Runs that are being read. share: 0 … 1 of all of them."""

    name: str
    show: Show
    began: float
    share: float = 0.0
    given_up: bool = False


class Opener:
    """One opening at a time: `begin` returns at once, `take` says what became of it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "opener")
        self._opening: _Opening | None = None
        self._runs: Future[list[Trace]]

    @property
    def busy(self) -> bool:
        return self._opening is not None

    @property
    def status(self) -> Status:
        """Of what is being read."""
        if self._opening is None:
            return Status("Ready")
        spent, share = monotonic() - self._opening.began, self._opening.share
        return Status(f"Opening {self._opening.name}", share, spent * (1 - share) / share if share and spent > 0.3 else None)

    def begin(self, name: str, reads: Sequence[Read], show: Show) -> None:
        """Read runs; `show` is called with them by `take`. name: what a person is told is being opened."""
        if self._opening is not None:
            raise BadInput(f"{self._opening.name} is being opened: stop it first (Esc), or wait for its end")
        self._opening = _Opening(name, show, monotonic())
        self._runs = self._pool.submit(_read, self._opening, reads)

    def stop(self) -> None:
        """Give up what is being read; `take` tells when it has ended."""
        if self._opening is not None:
            self._opening.given_up = True

    def take(self) -> Callable[[], object] | None:
        """What shows the runs that were read, or raises what was wrong with them; None while there is nothing to show.

        What was given up is shown by nothing.
        """
        opening = self._opening
        if opening is None or not self._runs.done():
            return None
        self._opening = None
        return (lambda: None) if opening.given_up else lambda: opening.show(self._runs.result())

    def close(self) -> None:
        """End the thread."""
        self.stop()
        self._pool.shutdown()


def _read(opening: _Opening, reads: Sequence[Read]) -> list[Trace]:
    return [_warm(read(partial(_tell, opening, index / len(reads), 1 / len(reads)))) for index, read in enumerate(reads)]


def _warm(trace: Trace) -> Trace:
    """With what several views derive from a whole run."""
    stages(trace)
    token_labels(trace)
    return trace


def _tell(opening: _Opening, before: float, part: float, share: float) -> None:
    """before, part: the shares of the runs read already and of the one being read."""
    opening.share = before + part * share
    if opening.given_up:
        raise _GivenUp
