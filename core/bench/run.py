"""A whole benchmark: children started, turns taken, and every answer kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from core.bench.adapter import Job
from core.bench.child import Answer, Child
from core.bench.columns import Column
from core.bench.elsewhere import QUIET, Elsewhere
from core.bench.plan import Measure, Pace, Settings, Turn, measures, turns
from core.bench.prompt import prompt_ids
from core.environment import environment
from core.errors import RunFailed
from core.models.find import describe, resolve
from core.models.info import ModelInfo

_PEAKS = Measure("peaks")
_TRIES = 3  # of what other programs disturbed; the least disturbed counts
_SHORT = 8.0  # seconds after which nothing is tried again
_MACHINE = Column("the machine", "peaks")


@dataclass
class Measured:
    """One engine's answers. rounds: for each measure, one for each round, None where it was not repeated.

    Each tells under `elsewhere` which share of the processors other programs took meanwhile. memory: what the first request
    said. loaded: bytes that passes read. error: why there is nothing, or nothing more.
    """

    column: Column
    rounds: dict[Measure, list[Answer | None]] = field(default_factory=dict)
    memory: Answer = field(default_factory=dict)
    loaded: Answer = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Record:
    """All that was measured. peaks: of each round."""

    settings: Settings
    info: ModelInfo
    measured: tuple[Measured, ...]
    peaks: tuple[Answer, ...]
    environment: dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """seconds_left: None as long as it is not known."""

    what: str
    round: int
    rounds: int
    done: int
    total: int
    seconds_left: float | None


Watcher = Callable[[Progress], None]


def run(settings: Settings, watch: Watcher) -> Record:
    """Measure everything. Raises BadInput before anything is started, RunFailed when no engine can be measured."""
    path = resolve(settings.model)
    info = describe(settings.model)
    settings.check(info.context)
    bench = _Bench(settings, info, path, watch)
    with ExitStack() as stack:
        bench.start(stack)
        bench.take_turns()
    return Record(settings, info, tuple(bench.engines), bench.peaks, environment())


def _disturbed(answer: Answer | None) -> bool:
    return answer is not None and answer["elsewhere"] > QUIET


class _Bench:
    """all: the engines, then the machine itself. children: of each of `all`."""

    def __init__(self, settings: Settings, info: ModelInfo, path: Path, watch: Watcher) -> None:
        self.settings, self.watch, self.pace = settings, watch, Pace()
        self.all = [Measured(column) for column in (*settings.columns, _MACHINE)]
        self.children: list[Child] = []
        self._memory_context = settings.memory_context(info.context)
        self._prompt = prompt_ids(path, max(settings.room, self._memory_context))
        self._job = Job(str(path), settings.threads, settings.room)

    @property
    def engines(self) -> Sequence[Measured]:
        return self.all[:-1]

    @property
    def peaks(self) -> tuple[Answer, ...]:
        return tuple(answer for answer in self.all[-1].rounds.get(_PEAKS, []) if answer)

    def start(self, stack: ExitStack) -> None:
        """Start every child, one at a time, and measure its first load and its memory while it is fresh."""
        for index, measured in enumerate(self.all):
            self.children.append(Child(measured.column.engine, self.settings.threads))
            stack.callback(self.children[-1].kill)
            if measured.column != _MACHINE:
                self.watch(Progress(f"memory and first load, {measured.column.label}", 0, self.settings.rounds, 0, 0, None))
                measured.memory = self._memory(index)
        if all(measured.error for measured in self.engines):
            reasons = "; ".join(f"{measured.column.label}: {measured.error}" for measured in self.engines)
            raise RunFailed(f"no engine can be measured: {reasons}")

    def _memory(self, index: int) -> Answer:
        room, prompt = self._memory_context + self.settings.tokens, self._prompt[: self._memory_context]
        return self._asked(index, do="memory", job=self._its(index, room), prompt=prompt) or {}

    def take_turns(self) -> None:
        """Every round begins with the machine itself."""
        rounds, living = self.settings.rounds, [index for index, each in enumerate(self.engines) if not each.error]
        machine = turns(rounds, [_PEAKS], [len(self.engines)])
        engines = turns(rounds, measures(self.settings.contexts), living)
        order = sorted([*machine, *engines], key=lambda turn: turn.round)
        for done, turn in enumerate(order):
            self.watch(self._progress(turn, done, order))
            self.all[turn.column].rounds.setdefault(turn.measure, []).append(self._taken(turn))

    def _progress(self, turn: Turn, done: int, order: Sequence[Turn]) -> Progress:
        what = f"{turn.measure}, {self.all[turn.column].column.label}"
        return Progress(what, turn.round + 1, self.settings.rounds, done, len(order), self.pace.left(order[done:]))

    def _taken(self, turn: Turn) -> Answer | None:
        if self.pace.enough(turn) or self.all[turn.column].error:
            return None
        began, answers = perf_counter(), [self._watched(turn)]
        while _disturbed(answers[-1]) and len(answers) < _TRIES and perf_counter() - began < _SHORT:
            answers.append(self._watched(turn))
        self.pace.took(turn, perf_counter() - began)
        return min(filter(None, answers), key=lambda answer: float(answer["elsewhere"]), default=None)

    def _watched(self, turn: Turn) -> Answer | None:
        """The answer, with the share of the processors that other programs took meanwhile."""
        elsewhere = Elsewhere(self.children)
        answer = self._answer(turn)
        return None if answer is None else {**answer, "elsewhere": elsewhere.share()}

    def _answer(self, turn: Turn) -> Answer | None:
        at = {"context": turn.measure.context} if turn.measure.context else {}
        match turn.measure.name:
            case "load":
                return self._load(turn.column)
            case "decode":
                return self._asked(turn.column, do="decode", tokens=self.settings.tokens, **at)
            case name:
                return self._asked(turn.column, do=name, **at)

    def _load(self, index: int) -> Answer | None:
        answer = self._asked(index, do="load", job=self._its(index, self.settings.room), prompt=self._prompt)
        self.all[index].loaded = answer or self.all[index].loaded
        return answer

    def _its(self, index: int, room: int) -> dict[str, Any]:
        column = self.all[index].column
        return dataclasses.asdict(dataclasses.replace(self._job, room=room, settings=column.settings))

    def _asked(self, index: int, **request: Any) -> Answer | None:
        """None, and the reason kept, where the engine cannot do it: the others go on."""
        try:
            return self.children[index].ask(**request)
        except RunFailed as error:
            self.all[index].error = str(error)
            return None
