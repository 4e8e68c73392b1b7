"""Sends the session's runs to the engine and puts the events that come back into its traces. Free of Qt."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from app.messages import CompareJob, Envelope, Job, JobEnded, RunJob
from app.progress import Progress, Status
from app.session import LETTERS, Session
from core.events import MEASURE, CompareProgress, Event, Failed, RunFinished, RunRequest, RunStarted, Step
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
    """columns: request index to session column. then: the job to submit when this one ends well."""

    number: int
    columns: tuple[int, ...]
    repeats: int
    progress: Progress
    then: tuple[RunRequest, ...] = ()
    repeat: dict[int, int] = field(default_factory=dict)
    pending: dict[int, Trace] = field(default_factory=dict)
    kept: dict[int, Trace] = field(default_factory=dict)


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

        With Inspect on, an inspected run of each comes first, so that there is something to look at.
        """
        columns = tuple(range(len(self.session.columns)))
        for column in self.session.columns:
            column.repeats = []
        measured = tuple(dataclasses.replace(request, inspect=MEASURE) for request in self.session.requests())
        if self.session.inspect:
            self._submit(self.session.requests(), columns, then=measured)
        else:
            self._submit(measured, columns, self.session.repeats)

    def continue_from(self, column: int, position: int, token: int) -> None:
        """Run one configuration from a token chosen in its stream. Raises BadInput where there is no such place."""
        self._submit((self.session.continuation(column, position, token),), (column,))

    def stop(self) -> None:
        """Tell the engine to stop; the job ends when it says so."""
        if self._job is not None:
            self._job.then = ()
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

    def _submit(
        self, requests: tuple[RunRequest, ...], columns: tuple[int, ...], repeats: int = 0, then: tuple[RunRequest, ...] = ()
    ) -> _Job:
        limits = [request.config.run.max_new_tokens for request in requests]
        number = self.engine.submit(CompareJob(requests, repeats) if repeats else RunJob(requests))
        self._job = _Job(number, columns, repeats, Progress(limits, repeats), then)
        return self._job

    def _take(self, job: _Job, envelope: Envelope, update: Update) -> None:
        if isinstance(envelope.event, JobEnded):
            self._end(job, envelope.event, update)
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
        if isinstance(event, RunStarted):
            shown.trace = trace
        if shown.trace is trace:
            update.columns.add(column)
        if isinstance(event, RunFinished) and not (job.repeats and job.repeat.get(column, 0) == 0):
            update.finished.append(trace)
            if job.repeats:
                shown.repeats.append(trace)

    def _end(self, job: _Job, ended: JobEnded, update: Update) -> None:
        failed = any(trace.failed for trace in job.pending.values())
        self._job = None
        for column, trace in job.kept.items():
            self.session.columns[column].trace = trace
            update.columns.add(column)
        if job.then and not (ended.stopped or failed):
            inspected = {column: shown for column in job.columns if (shown := self.session.columns[column].trace)}
            self._submit(job.then, job.columns, self.session.repeats).kept = inspected
        else:
            update.ended = True
