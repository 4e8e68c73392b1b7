"""The one record of a run: every view, comparison, history entry and export reads it and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from core.events import (
    AttentionCaptured,
    CacheChanged,
    CaptureEnded,
    Event,
    Failed,
    Loaded,
    LoadProgress,
    PrefillProgress,
    Round,
    RoutingCaptured,
    RunFinished,
    RunStarted,
    Step,
    TextDelta,
    Token,
)
from core.quality.results import NeedleMeasured, QualityMeasured
from core.quality.unmodified import same_quality


class Follower(Protocol):
    """Something derived from a trace, which costs only what is new in it."""

    def take(self, trace: Trace) -> None:
        """Take in what the trace gained since the last call."""


F = TypeVar("F", bound=Follower)


@dataclass
class Trace:
    """Grows by `add` while a run is live; `revision` rises with each event so that views repaint only on change."""

    started: RunStarted | None = None
    loaded: Loaded | None = None
    load: LoadProgress | None = None
    prefill: list[PrefillProgress] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    attention: dict[int, list[AttentionCaptured]] = field(default_factory=dict)  # by layer, in order of steps
    routing: dict[int, list[RoutingCaptured]] = field(default_factory=dict)
    cache: list[CacheChanged] = field(default_factory=list)
    capture_ended: CaptureEnded | None = None
    finished: RunFinished | None = None
    failed: Failed | None = None
    quality: list[QualityMeasured] = field(default_factory=list)  # of the run's configuration; there may be no run
    needles: list[NeedleMeasured] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)  # generated ones
    text: str = ""
    revision: int = 0
    followers: dict[Callable[[], Any], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def add(self, event: Event) -> None:
        """Record one event."""
        self.revision += 1
        match event:
            case LoadProgress():
                self.load = event
            case Loaded():
                self.loaded = event
            case RunStarted():
                self.started = event
            case PrefillProgress():
                self.prefill.append(event)
            case TextDelta():
                self.text += event.text
            case Step():
                self.steps.append(event)
                self.tokens.extend(event.tokens)
            case Round():
                self.rounds.append(event)
            case AttentionCaptured():
                self.attention.setdefault(event.layer, []).append(event)
            case RoutingCaptured():
                self.routing.setdefault(event.layer, []).append(event)
            case CacheChanged():
                self.cache.append(event)
            case CaptureEnded():
                self.capture_ended = event
            case RunFinished():
                self.finished = event
            case Failed():
                self.failed = event
            case QualityMeasured():
                self.quality.append(event)
            case NeedleMeasured():
                self.needles.append(event)

    @property
    def subject(self) -> RunStarted | QualityMeasured | NeedleMeasured | None:
        """What tells the configuration, model and machine: the run, or what was measured where there is no run."""
        measured: list[QualityMeasured | NeedleMeasured] = [*self.quality, *self.needles]
        return self.started or (measured[0] if measured else None)

    @property
    def prompt_tokens(self) -> tuple[Token, ...]:
        return self.started.prompt_tokens if self.started else ()

    @property
    def all_tokens(self) -> list[Token]:
        """Prompt and generated tokens: entry i stands at position i."""
        return [*self.prompt_tokens, *self.tokens]

    def take_quality(self, other: Trace | None) -> None:
        """Keep what was measured of the same configuration before this run."""
        measured: list[QualityMeasured | NeedleMeasured] = [] if other is None else [*other.quality, *other.needles]
        for event in measured:
            if self.subject is not None and same_quality(self.subject.config, event.config):
                self.add(event)

    @property
    def live(self) -> bool:
        """Whether a run is going on."""
        ended = self.finished is not None or self.failed is not None
        return not ended and (self.started is not None or self.subject is None)

    def follow(self, kind: Callable[[], F]) -> F:
        """The trace's own follower of this kind, made at the first call, and up to date."""
        follower: F = self.followers.get(kind) or self.followers.setdefault(kind, kind())
        follower.take(self)
        return follower

    def events(self) -> Iterable[Event]:
        """The recorded events, in an order that `record` turns into an equal trace."""
        singles = (self.load, self.loaded, self.started)
        yield from (event for event in singles if event is not None)
        yield from self.prefill
        yield from self.steps
        yield from self.rounds
        for maps in self.attention.values():
            yield from maps
        for routes in self.routing.values():
            yield from routes
        yield from self.cache
        yield TextDelta(self.text)
        ends = (self.capture_ended, self.finished, self.failed)
        yield from (event for event in ends if event is not None)
        yield from self.quality
        yield from self.needles


def record(events: Iterable[Event]) -> Trace:
    """A trace of all `events`."""
    trace = Trace()
    for event in events:
        trace.add(event)
    return trace
