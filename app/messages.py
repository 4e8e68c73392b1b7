"""What the window and the engine process say to each other."""

from __future__ import annotations

from dataclasses import dataclass

from core.events import Event, RunRequest
from core.quality.request import MeasureRequest


@dataclass(frozen=True)
class RunJob:
    """Run the requests one after another; request i is column i."""

    requests: tuple[RunRequest, ...]


@dataclass(frozen=True)
class CompareJob:
    """A warm-up of each request, then `repeats` interleaved rounds (ABAB …)."""

    requests: tuple[RunRequest, ...]
    repeats: int


@dataclass(frozen=True)
class MeasureJob:
    """Measure the quality of configurations one after another; request i is column i."""

    requests: tuple[MeasureRequest, ...]


Job = RunJob | CompareJob | MeasureJob


@dataclass(frozen=True)
class Ready:
    """The engine process has imported what it needs; the client keeps this to itself."""


@dataclass(frozen=True)
class JobEnded:
    """The last word on a job. stopped: it ended because it was told to."""

    stopped: bool


@dataclass(frozen=True)
class Envelope:
    """One event of a job. column: which configuration it belongs to."""

    job: int
    column: int
    event: Event | JobEnded
