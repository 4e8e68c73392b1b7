"""Writes finished runs to the history on a thread of its own, so that the window never waits for a disk."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from weakref import ref

from app.history import History
from core.errors import RunFailed
from core.trace import Trace
from core.trace_file import Progress, unwatched


class Keeper:
    """`keep` and `measured` return at once; `done` says what became of them."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._pool = ThreadPoolExecutor(1, "history")
        self._open: list[Future[int]] = []
        self._kept: dict[int, tuple[ref[Trace], Future[int]]] = {}  # by the trace's identity, as long as there is one

    def keep(self, trace: Trace) -> None:
        """Add a finished run."""
        self._open.append(self._remember(trace, self._pool.submit(self._history.add, trace)))

    def measured(self, trace: Trace) -> None:
        """Keep what was measured of a run since it was kept, or opened here; nothing of a run that never was."""
        if id(trace) in self._kept:
            self._open.append(self._pool.submit(self._update, self._kept[id(trace)][1], trace))

    def open(self, id_: int, progress: Progress = unwatched) -> Trace:
        """As History.open."""
        trace, known = self._history.open(id_, progress), Future[int]()
        known.set_result(id_)
        self._remember(trace, known)
        return trace

    def done(self) -> tuple[int, list[str]]:
        """How many runs were kept or gained something since the last call, and what went wrong with others."""
        ended = [future for future in self._open if future.done()]
        self._open = [future for future in self._open if future not in ended]
        errors = [future.exception() for future in ended]
        for error in errors:
            if error is not None and not isinstance(error, RunFailed):
                raise error
        return errors.count(None), [str(error) for error in errors if error is not None]

    def _remember(self, trace: Trace, id_: Future[int]) -> Future[int]:
        key = id(trace)
        self._kept[key] = ref(trace, lambda _gone: self._kept.pop(key, None)), id_
        return id_

    def _update(self, id_: Future[int], trace: Trace) -> int:
        """On the thread that keeps, so that the run has been kept by now."""
        self._history.update(id_.result(), trace)
        return id_.result()

    def close(self) -> None:
        """Wait until everything is written."""
        self._pool.shutdown()
