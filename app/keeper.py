"""Writes finished runs to the history on a thread of its own, so that the window never waits for a disk."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from app.history import History
from core.errors import RunFailed
from core.trace import Trace


class Keeper:
    """`keep` returns at once; `done` says what became of it."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._pool = ThreadPoolExecutor(1, "history")
        self._open: list[Future[int]] = []

    def keep(self, trace: Trace) -> None:
        """Add a finished run."""
        self._open.append(self._pool.submit(self._history.add, trace))

    def done(self) -> tuple[int, list[str]]:
        """How many runs were kept since the last call, and what went wrong with others."""
        ended = [future for future in self._open if future.done()]
        self._open = [future for future in self._open if future not in ended]
        errors = [future.exception() for future in ended]
        for error in errors:
            if error is not None and not isinstance(error, RunFailed):
                raise error
        return errors.count(None), [str(error) for error in errors if error is not None]

    def close(self) -> None:
        """Wait until everything is written."""
        self._pool.shutdown()
