"""The window's hold on the engine process: submit, stop, poll, restart; none of them ever waits. Free of Qt and torch."""

from __future__ import annotations

import io
import pickle
import signal
from collections.abc import Iterator
from time import monotonic
from typing import Literal, TypeGuard

from app.engine_link import EngineLink
from app.engine_process import ENGINE, Factories, log_file
from app.messages import Envelope, Job, JobEnded, Ready
from app.pace import SWIFT
from core.errors import RunFailed
from core.events import Failed

State = Literal["starting", "idle", "busy", "dead"]
STOP_WITHIN = 2.0  # seconds from Stop to the end of a process that does not honour it
POLL_FOR = 0.01  # seconds of unpacking in one poll


class EngineClient:
    """One engine process at a time, started with the first poll or job, so that a window that opens has the processor first.

    death: why the process ended, in one sentence; empty while it lives. behind: whether the last poll left something.
    """

    def __init__(self, factories: Factories = ENGINE) -> None:
        self._factories = factories
        self._flush_every = SWIFT.flush_every
        self._last_job = 0
        self._reset()

    def _reset(self) -> None:
        self._started: EngineLink | None = None
        self._ready = False
        self._incoming: Iterator[Envelope | Ready] = iter(())  # what is left of the batch that came last
        self._open: list[int] = []
        self._withdrawn: list[Envelope] = []
        self._column = 0  # whose event came last: an error of the process is told there
        self._stop_by: float | None = None
        self._overdue = False
        self.behind = False
        self.death = ""

    @property
    def state(self) -> State:
        """`starting` until the process has imported what it needs; jobs may be submitted meanwhile."""
        if self.death:
            return "dead"
        if not self._ready:
            return "starting"
        return "busy" if self._open else "idle"

    @property
    def pid(self) -> int | None:
        """None until the process is started."""
        return None if self._started is None else self._started.pid

    @property
    def flush_every(self) -> float:
        """Seconds between two batches of events: fewer take less of the processor."""
        return self._flush_every

    @flush_every.setter
    def flush_every(self, seconds: float) -> None:
        self._flush_every = seconds
        if self._started is not None:
            self._started.wishes.flush_every = seconds

    @property
    def _link(self) -> EngineLink:
        if self._started is None:
            self._started = EngineLink(self._factories, self._flush_every)
        return self._started

    def submit(self, job: Job) -> int:
        """Queue a job; its number comes back in its envelopes. Raises RunFailed when the process has ended."""
        if self.death:
            raise RunFailed(self.death)
        self._last_job += 1
        self._open.append(self._last_job)
        self._link.send(self._last_job, job)
        return self._last_job

    def stop(self) -> None:
        """Stop every job submitted so far; a process that has not done so within two seconds is ended."""
        if not self._open:
            return
        self._link.wishes.stop_number = self._last_job
        if self._ready:
            self._stop_by = self._stop_by or monotonic() + STOP_WITHIN
        else:
            self._withdrawn = [Envelope(number, 0, JobEnded(True)) for number in self._open]
            self._open = []

    def poll(self) -> list[Envelope]:
        """What the engine has said since the last poll, in order; what takes longer to unpack is left for the next one."""
        said, self._withdrawn = self._withdrawn, []
        if self.death:
            return said
        until, self.behind = monotonic() + POLL_FOR, False
        while monotonic() < until:
            message = next(self._incoming, None)
            if message is not None:
                said += [message] if self._concerns(message) else []
            elif (batch := self._link.take()) is not None:
                self._incoming = _unpacked(batch)
            else:
                return said + self._unheard()
        self.behind = True
        return said

    def restart(self) -> None:
        """A fresh process in place of the present one, dead or alive; its jobs are forgotten."""
        self._end()
        self._reset()

    def close(self) -> None:
        """End the process; no other one is started."""
        self._end()
        self.death = "the engine has been closed"
        self._open = []

    def _end(self) -> None:
        if self._started is not None:
            self._started.close()

    def _concerns(self, message: Envelope | Ready) -> TypeGuard[Envelope]:
        """Take note of a message; whether it is one for the window."""
        if isinstance(message, Ready):
            self._ready = True
            return False
        if message.job not in self._open:
            return False
        self._column = message.column
        if isinstance(message.event, JobEnded):
            self._open.remove(message.job)
            if all(number > self._link.wishes.stop_number for number in self._open):
                self._stop_by = None
        return True

    def _unheard(self) -> list[Envelope]:
        """What the process can no longer say itself, once all that it did say has been read."""
        if self._stop_by is not None and monotonic() > self._stop_by:
            self._overdue, self._stop_by = True, None
            self._link.kill()
        if not self._link.lost or self._link.exit_code is None:
            return []
        self.death = self._cause(self._link.exit_code)
        failed = [Envelope(number, self._column, Failed(self.death, False)) for number in self._open[:1]]
        ended = [Envelope(number, self._column, JobEnded(self._overdue)) for number in self._open]
        self._open = []
        return failed + ended

    def _cause(self, exit_code: int) -> str:
        if self._overdue:
            return f"the engine did not stop within {STOP_WITHIN:.0f} s, so its process was ended: press Restart"
        if exit_code == -signal.SIGKILL:
            how = "killed by signal 9, as the system does when memory runs out"
        else:
            how = f"killed by signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
            how += f", details in {log_file()}"
        return f"the engine process ended unexpectedly ({how}): press Restart"


def _unpacked(batch: bytes) -> Iterator[Envelope | Ready]:
    """A batch is pickles one after another with one memo."""
    stream = io.BytesIO(batch)
    unpickler = pickle.Unpickler(stream)
    while stream.tell() < len(batch):
        yield unpickler.load()
