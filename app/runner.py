"""Sends the session's runs to the engine and puts the events that come back into its traces. Free of Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from app.messages import CompareJob, Envelope, Job, JobEnded, RunJob
from app.progress import Progress, Status
from app.session import LETTERS, Session
from core.events import CompareProgress, Event, Failed, RunFinished, RunRequest, RunStarted, Step
from core.trace import Trace


class Engine(Protocol):
    """What the runner needs of the engine's process."""

    def submit(self, job: Job) -> int: ...

    def stop(self) -> None: ...

    def poll(self) -> Sequence[Envelope]: ...


@dataclass
class Update:
    """What one look at the engine brought. columns: whose trace changed; finished: runs to keep in the history."""

    columns: set[int] = field(default_factory=set)
    finished: list[Trace] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    first_token: bool = False
    ended: bool = False


@dataclass
class _Job:
    """columns: request index to session column. repeat, pending: of the run that each column is in."""

    number: int
    columns: tuple[int, ...]
    repeats: int
    progress: Progress
    repeat: dict[int, int] = field(default_factory=dict)
    pending: dict[int, Trace] = field(default_factory=dict)

    def is_warm_up(self, column: int) -> bool:
        return self.repeats > 0 and self.repeat.get(column, 0) == 0


class Runner:
    """One job at a time."""

    def __init__(self, session: Session, engine: Engine) -> None:
        self.session = session
        self.engine = engine
        self._job: _Job | None = None

    @property
    def busy(self) -> bool:
        return self._job is not None

    @property
    def status(self) -> Status:
        """Of the job that is running."""
        return self._job.progress.status if self._job else Status("Ready")

    def run(self) -> None:
        """Run every configuration on the prompt, one after another."""
        self._submit(self.session.requests(), tuple(range(len(self.session.columns))))

    def compare(self) -> None:
        """Measure the configurations against each other in interleaved repeats, with nothing captured.

        With Inspect on, the warm-up is inspected, and stays in the streams so that there is something to look at.
        """
        self._submit(self.session.requests(), tuple(range(len(self.session.columns))), self.session.repeats)

    def continue_from(self, column: int, position: int, token: int) -> None:
        """Run one configuration from a token chosen in its stream. Raises BadInput where there is no such place."""
        self._submit((self.session.continuation(column, position, token),), (column,))

    def stop(self) -> None:
        """Tell the engine to stop; the job ends when it says so."""
        if self._job is not None:
            self.engine.stop()

    def abandon(self) -> None:
        """Forget the job: its engine is gone."""
        self._job = None

    def drain(self) -> Update:
        """Take in everything the engine has said since the last look."""
        update = Update()
        for envelope in self.engine.poll():
            if self._job is not None and envelope.job == self._job.number:
                self._take(self._job, envelope, update)
        return update

    def _submit(self, requests: tuple[RunRequest, ...], columns: tuple[int, ...], repeats: int = 0) -> None:
        limits = [request.config.run.max_new_tokens for request in requests]
        for column in columns:
            self.session.columns[column].repeats = []
        number = self.engine.submit(CompareJob(requests, repeats) if repeats else RunJob(requests))
        self._job = _Job(number, columns, repeats, Progress(limits, repeats))

    def _take(self, job: _Job, envelope: Envelope, update: Update) -> None:
        if isinstance(envelope.event, JobEnded):
            self._job, update.ended = None, True
            return
        column = job.columns[envelope.column]
        job.progress.add(column, envelope.event)
        match envelope.event:
            case CompareProgress(repeat=repeat):
                job.repeat[column] = repeat
                job.pending[column] = Trace()
            case Failed(message=message):
                update.errors.append(f"{LETTERS[column]}: {message}")
        self._record(job, column, envelope.event, update)

    def _record(self, job: _Job, column: int, event: Event, update: Update) -> None:
        """Grow the column's trace; a new one takes the place of the old one when its run starts."""
        trace = job.pending.setdefault(column, Trace())
        shown = self.session.columns[column]
        if isinstance(event, Step) and not trace.tokens:
            update.first_token = True
        trace.add(event)
        if isinstance(event, RunStarted) and (job.is_warm_up(column) or not self._keeps_warm_up(job)):
            shown.trace = trace
        if shown.trace is trace:
            update.columns.add(column)
        if isinstance(event, RunFinished) and (not job.is_warm_up(column) or self._keeps_warm_up(job)):
            update.finished.append(trace)
        if isinstance(event, RunFinished) and job.repeats and not job.is_warm_up(column):
            shown.repeats.append(trace)

    def _keeps_warm_up(self, job: _Job) -> bool:
        return job.repeats > 0 and self.session.inspect
