"""The engine's own process: jobs come in, events go out, and nothing it does can hold up the window."""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, TextIO, TypeVar

from app.log import FORMAT, opened, threads_told
from app.messages import CompareJob, Envelope, Job, JobEnded, MeasureJob, Ready, RunJob
from app.outbox import Outbox
from core.errors import BadInput, PlaygroundError
from core.events import Event, Failed
from core.folders import cache_folder

Stop = Callable[[], bool]
T = TypeVar("T")


class Wishes(ctypes.Structure):
    """What the window wants at any time, in memory shared with it; needs no lock.

    stop_number: jobs up to it are to stop; it only grows. flush_every: seconds between two batches of events.
    """

    _fields_ = (("stop_number", ctypes.c_int64), ("flush_every", ctypes.c_double))

    stop_number: int
    flush_every: float


@dataclass(frozen=True)
class Factories:
    """What does the work, as `module:attribute`, imported in the engine process alone."""

    engine: str = "core.engine.engine:Engine"
    compare: str = "core.compare:compare"


ENGINE = Factories()


def log_file() -> Path:
    """Where the engine writes errors in full."""
    return cache_folder() / "engine.log"


def main(jobs: Connection, events: Connection, wishes: Wishes, factories: Factories) -> None:
    """Do one job after another until the window is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _log_to(opened(log_file()))
    sys.excepthook = _log_unforeseen
    with threads_told():
        _serve(jobs, events, wishes, factories)


def _serve(jobs: Connection, events: Connection, wishes: Wishes, factories: Factories) -> None:
    Thread(target=_end_with_parent, name="parent", daemon=True).start()
    outbox = Outbox(events, lambda: wishes.flush_every)
    worker = _worker(factories, outbox)
    outbox.put(Ready())
    while True:
        try:
            number, job = jobs.recv()
        except EOFError:
            return
        worker.work(number, job, _stop(wishes, number))


def _worker(factories: Factories, outbox: Outbox) -> Worker:
    try:
        return Worker(factories, outbox.put)
    except Exception:
        logging.exception("the engine cannot start")
        raise


def _stop(wishes: Wishes, number: int) -> Stop:
    return lambda: wishes.stop_number >= number


class Worker:
    """Turns jobs into envelopes."""

    def __init__(self, factories: Factories, say: Callable[[Envelope], None]) -> None:
        self._engine = _imported(factories.engine)()
        self._compare = _imported(factories.compare)
        self._say = say

    def work(self, number: int, job: Job, stop: Stop) -> None:
        """Do one job. Whatever happens in it, its last envelope is JobEnded."""
        match job:
            case CompareJob():
                self._tell(number, 0, self._compare(self._engine, job.requests, job.repeats, stop))
            case MeasureJob():
                self._each(number, job.requests, self._engine.measure, stop)
            case RunJob():
                self._each(number, job.requests, self._engine.run, stop)
        self._say(Envelope(number, 0, JobEnded(stop())))

    def _each(self, number: int, requests: Sequence[T], work: Callable[[T, Stop], Iterable[Event]], stop: Stop) -> None:
        for column, request in enumerate(requests):
            if stop():
                return
            self._tell(number, column, _of_column(column, work(request, stop)))

    def _tell(self, number: int, column: int, events: Iterable[tuple[int, Event]]) -> None:
        """Pass on the events; the process outlives an error in the middle of them."""
        try:
            for column, event in events:
                self._say(Envelope(number, column, event))
        except Exception as error:
            self._say(Envelope(number, column, _failure(error)))


def _of_column(column: int, events: Iterable[Event]) -> Iterator[tuple[int, Event]]:
    return ((column, event) for event in events)


def _failure(error: Exception) -> Failed:
    """One sentence on an error; one that nobody foresaw is logged in full."""
    if isinstance(error, PlaygroundError):
        return Failed(str(error), isinstance(error, BadInput))
    logging.exception("a run broke")
    first = next(iter(str(error).splitlines()), "")
    return Failed(f"the run broke: {type(error).__name__}: {first} (in full in {log_file()})", False)


def _imported(name: str) -> Any:
    module, attribute = name.split(":")
    return getattr(import_module(module), attribute)


def _log_to(log: TextIO) -> None:
    logging.basicConfig(stream=log, format=FORMAT, level=logging.WARNING)
    faulthandler.enable(log)


def _log_unforeseen(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    logging.error("the engine", exc_info=(kind, error, at))


def _end_with_parent() -> None:
    """Sleep until the parent is gone, however it went; no engine is left behind."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(0)
