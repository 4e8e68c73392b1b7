"""A started engine process, a thread that writes to it and one that reads from it, so that the window never waits on a pipe."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection, wait
from queue import Empty, SimpleQueue
from threading import Thread

from app import engine_process
from app.messages import Job

_LAST_GASP = 1.0  # seconds between the end of the pipe and that of the process
_Task = tuple[int, Job]


class EngineLink:
    """lost: the process has ended, and everything it said has been taken."""

    def __init__(self, factories: engine_process.Factories, flush_every: float) -> None:
        context = multiprocessing.get_context("spawn")
        theirs, jobs = context.Pipe(duplex=False)
        events, ours = context.Pipe(duplex=False)
        self.wishes = context.RawValue(engine_process.Wishes, 0, flush_every)
        arguments = (theirs, ours, self.wishes, factories)
        self._process = context.Process(target=engine_process.main, args=arguments, name="engine", daemon=True)
        self._process.start()
        theirs.close()
        ours.close()
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._batches: SimpleQueue[bytes | None] = SimpleQueue()
        self.lost = False
        Thread(target=_write, args=(jobs, self._tasks), name="engine jobs", daemon=True).start()
        Thread(target=_read, args=(events, self._batches, self._process.sentinel), name="engine events", daemon=True).start()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while the process lives; negative: the signal that killed it."""
        return self._process.exitcode

    def send(self, number: int, job: Job) -> None:
        self._tasks.put((number, job))

    def take(self) -> bytes | None:
        """The next batch of pickled messages, or None when there is none now."""
        try:
            batch = self._batches.get_nowait()
        except Empty:
            return None
        self.lost = batch is None
        return batch

    def kill(self) -> None:
        """End the process at once, without waiting for its end."""
        self._process.kill()

    def close(self) -> None:
        """End the process and the threads."""
        self._process.kill()
        self._process.join(_LAST_GASP)
        self._tasks.put(None)


def _write(jobs: Connection, tasks: SimpleQueue[_Task | None]) -> None:
    """A process that has ended is the reader's news, not the writer's."""
    try:
        with jobs:
            while (task := tasks.get()) is not None:
                jobs.send(task)
    except OSError:
        return


def _read(events: Connection, batches: SimpleQueue[bytes | None], process: int) -> None:
    """process: its sentinel, so that None comes when there is an exit code to tell."""
    try:
        with events:
            while True:
                batches.put(events.recv_bytes())
    except (EOFError, OSError):
        wait([process], _LAST_GASP)
        batches.put(None)
