"""Whose turn it is: every engine once for each measure, measure after measure, round after round (A B C A B C …)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from core.bench.columns import Column
from core.bench.tasks import MEMORY_CONTEXT, ROWS_CONTEXT
from core.errors import BadInput

_ENOUGH = 15.0  # seconds of one measure of one engine, after which it is not repeated
_FEWEST = 3  # rounds of it, however long they take


@dataclass(frozen=True)
class Settings:
    """What is asked for. model: as a person names it. contexts: tokens, ascending. tokens: greedy steps of a decode."""

    model: str
    columns: tuple[Column, ...]
    contexts: tuple[int, ...]
    tokens: int
    rounds: int
    threads: int

    @property
    def room(self) -> int:
        """Tokens that a sequence must hold."""
        return max(self.contexts[-1], ROWS_CONTEXT) + self.tokens

    def memory_context(self, most: int) -> int:
        """Tokens held while memory is measured, in a model that takes `most`."""
        return min(MEMORY_CONTEXT, most - self.tokens)

    def check(self, most: int) -> None:
        """Raise BadInput for contexts that a model of `most` tokens cannot hold."""
        if self.room > most:
            raise BadInput(
                f"--contexts, --tokens: {self.contexts[-1]} tokens and {self.tokens} more are needed, "
                f"and the model takes {most} in all"
            )


@dataclass(frozen=True)
class Measure:
    """name: a request of the child. context: tokens held, 0 where that is fixed."""

    name: str
    context: int = 0

    def __str__(self) -> str:
        return f"{self.name} at {self.context:,} tokens" if self.context else self.name


@dataclass(frozen=True)
class Turn:
    """column: index of the engine. round: from 0."""

    round: int
    measure: Measure
    column: int


def measures(contexts: Sequence[int]) -> tuple[Measure, ...]:
    """Each prefill leaves in the cache what the decode after it needs."""
    by_context = [Measure(name, context) for context in contexts for name in ("prefill", "decode")]
    return (Measure("load"), Measure("rows"), *by_context)


def turns(rounds: int, wanted: Sequence[Measure], columns: Sequence[int]) -> Iterator[Turn]:
    for round_ in range(rounds):
        for measure in wanted:
            for column in columns:
                yield Turn(round_, measure, column)


@dataclass
class Pace:
    """How long turns take, which of them are repeated often enough, and the time that the others will take."""

    _spent: dict[tuple[int, Measure], list[float]] = field(default_factory=lambda: defaultdict(list))

    def took(self, turn: Turn, seconds: float) -> None:
        self._spent[turn.column, turn.measure].append(seconds)

    def enough(self, turn: Turn) -> bool:
        """Whether this engine's measure has taken so long already that it is not repeated."""
        spent = self._spent[turn.column, turn.measure]
        return len(spent) >= _FEWEST and sum(spent) >= _ENOUGH

    def left(self, rest: Sequence[Turn]) -> float | None:
        """Seconds that the turns still to come will take; None before each was taken once."""
        known = [self._spent[turn.column, turn.measure] for turn in rest if not self.enough(turn)]
        return sum(spent[-1] for spent in known) if all(known) else None
