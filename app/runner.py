"""Sends the session's runs to the engine and puts the events that come back into its traces. Free of Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from app.failures import contained
from app.messages import CompareJob, Envelope, Job, JobEnded, MeasureJob, RunJob
from app.progress import Progress, Status
from app.session import LETTERS, Column, Session
from core.events import CompareProgress, Event, Failed, RunFinished, RunRequest, RunStarted, Step
from core.quality.request import Measurement
from core.quality.results import NeedleMeasured, QualityMeasured
from core.trace import Trace


class Engine(Protocol):
    """What the runner needs of the engine's process."""

    def submit(self, job: Job) -> int: ...

    def stop(self) -> None: ...

    def poll(self) -> Sequence[Envelope]: ...


@dataclass
class Update:
    """What one look at the engine brought. columns: whose trace changed; finished: runs to keep in the history.

    measured: traces whose quality was.
    """

    columns: set[int] = field(default_factory=set)
    finished: list[Trace] = field(default_factory=list)
    measured: list[Trace] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    first_token: bool = False
    ended: bool = False


@dataclass
class _Job:
    """One job. places, columns: where in the session, and which, each request is of. repeat, pending: of the run it is in."""

    number: int
    places: tuple[int, ...]
    columns: tuple[Column, ...]
    repeats: int
    inspected: bool
    progress: Progress
    repeat: dict[int, int] = field(default_factory=dict)
    pending: dict[int, Trace] = field(default_factory=dict)

    def trace(self, request: int) -> Trace:
        """Of the run that a request is in."""
        if request not in self.pending:
            self.pending[request] = Trace()
        return self.pending[request]

    def is_warm_up(self, request: int) -> bool:
        return self.repeats > 0 and self.repeat.get(request, 0) == 0

    @property
    def keeps_warm_up(self) -> bool:
        """Whether the warm-up is what the streams go on showing."""
        return self.repeats > 0 and self.inspected


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

    def measure(self, asked: Measurement) -> None:
        """Measure the quality of every configuration, or of one. Raises BadInput for options that do not go together."""
        places = tuple(range(len(self.session.columns))) if asked.column is None else (asked.column,)
        requests = tuple(asked.request(self.session.columns[place].config) for place in places)
        self._begin(MeasureJob(requests), places, Progress({}))

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
                contained(partial(self._take, self._job, envelope, update))  # what follows holds the end of the job
        return update

    def _submit(self, requests: tuple[RunRequest, ...], places: tuple[int, ...], repeats: int = 0) -> None:
        limits = {place: request.config.run.max_new_tokens for place, request in zip(places, requests)}
        self._begin(CompareJob(requests, repeats) if repeats else RunJob(requests), places, Progress(limits, repeats), repeats)
        for place in places:
            self.session.columns[place].repeats = []

    def _begin(self, job: Job, places: tuple[int, ...], progress: Progress, repeats: int = 0) -> None:
        columns = tuple(self.session.columns[place] for place in places)
        self._job = _Job(self.engine.submit(job), places, columns, repeats, self.session.inspect, progress)

    def _take(self, job: _Job, envelope: Envelope, update: Update) -> None:
        if isinstance(envelope.event, JobEnded):
            self._job, update.ended = None, True
            return
        request, place = envelope.column, job.places[envelope.column]
        job.progress.add(place, envelope.event)
        match envelope.event:
            case CompareProgress(repeat=repeat):
                job.repeat[request] = repeat
                job.pending[request] = Trace()
            case Failed(message=message):
                update.errors.append(f"{LETTERS[place]}: {message}")
        if isinstance(envelope.event, QualityMeasured | NeedleMeasured):
            update.measured.append(job.columns[request].measured(envelope.event))
            update.columns.add(place)
        else:
            self._record(job, request, envelope.event, update)

    def _record(self, job: _Job, request: int, event: Event, update: Update) -> None:
        """Grow the column's trace; a new one takes the place of the old one when its run starts."""
        trace, column = job.trace(request), job.columns[request]
        if isinstance(event, Step) and not trace.tokens:
            update.first_token = True
        trace.add(event)
        if isinstance(event, RunStarted | RunFinished):
            self._turned(job, request, trace, event, update)
        if column.trace is trace:
            update.columns.add(job.places[request])

    def _turned(self, job: _Job, request: int, trace: Trace, event: RunStarted | RunFinished, update: Update) -> None:
        """A run has begun or ended."""
        warms_up, column = job.is_warm_up(request), job.columns[request]
        if isinstance(event, RunStarted):
            trace.take_quality(column.trace)
            column.trace = column.trace if job.keeps_warm_up and not warms_up else trace
            return
        if not warms_up or job.keeps_warm_up:
            update.finished.append(trace)
        if job.repeats and not warms_up:
            column.repeats.append(trace)
