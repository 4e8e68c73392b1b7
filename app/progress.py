"""How far a job is: what the status line says, the share done and the time left. Free of Qt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic

from core.events import (
    CompareProgress,
    Event,
    Loaded,
    LoadProgress,
    PrefillProgress,
    QualityProgress,
    RunFinished,
    RunStarted,
    Step,
)

LETTERS = "ABCD"


@dataclass(frozen=True)
class Status:
    """share: 0 … 1, None where the length of the work is not known."""

    text: str
    share: float | None = None
    seconds_left: float | None = None


class Progress:
    """Follows the events of one job."""

    def __init__(self, limits: Mapping[int, int], repeats: int = 0) -> None:
        """limits: column to its most new tokens. repeats: of a comparison; 0 for plain runs."""
        self._limits = limits
        self._repeats = repeats
        self._began = self._stage_began = monotonic()
        self._stage = ("", 0)
        self._column = 0
        self._repeat = 0
        self._tokens = 0
        self._runs_done = 0
        self.status = Status("Waiting for the engine")

    def add(self, column: int, event: Event) -> None:
        """Take one event into account."""
        self._column = column
        match event:
            case CompareProgress():
                self._repeat = event.repeat
            case LoadProgress():
                self._stage_at(f"load {event.stage}")
                self._say(f"Loading the model: {event.stage}", event.done, event.total)
            case Loaded():
                self.status = Status(f"{self._letter} loaded in {event.seconds:.2f} s")
            case RunStarted():
                self._tokens = 0
                self._stage_at("prefill")
                self._say(f"{self._letter} reads the prompt: {len(event.prompt_tokens)} tokens", 0, 1)
            case PrefillProgress():
                self._say(f"{self._letter} reads the prompt: {event.done} of {event.total} tokens", event.done, event.total)
            case Step():
                self._stage_at("decode")
                self._tokens += len(event.tokens)
                limit = self._limits[column]
                self._say(f"{self._letter} writes: {self._tokens} tokens", self._tokens, limit)
            case QualityProgress():
                self._stage_at(event.stage)
                so_far = f"{event.so_far:.0%} found" if event.stage == "needle" else f"perplexity {event.so_far:.4g}"
                self._say(f"{self._letter} is measured: {so_far} so far", event.done, event.total)
            case RunFinished():
                self._runs_done += 1

    @property
    def _letter(self) -> str:
        return LETTERS[self._column]

    def _stage_at(self, stage: str) -> None:
        if (stage, self._column) != self._stage:
            self._stage, self._stage_began = (stage, self._column), monotonic()

    def _say(self, text: str, done: int, total: int) -> None:
        share = done / total if total else None
        if self._repeats:
            share = None if share is None else self._of_comparison(share)
            part = "warm-up" if self._repeat == 0 else f"repeat {self._repeat} of {self._repeats}"
            text = f"Comparing, {part}: {text}"
        began = self._began if self._repeats else self._stage_began
        spent = monotonic() - began
        left = spent * (1 - share) / share if share and spent > 0.3 else None
        self.status = Status(text, share, left)

    def _of_comparison(self, share: float) -> float:
        """The share of the whole comparison; a load counts for nothing."""
        runs = len(self._limits) * (self._repeats + 1)
        part = share if self._stage[0] == "decode" else 0.0
        return min(1.0, (self._runs_done + part) / runs)
