"""Time and Stop: a clock of the engine's own work, and a probe that looks at Stop between two layers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TypeVar

from core.decoder.probe import Probe
from core.engine.backend import Stop, Stopped

_LOOK_EVERY = 0.02  # seconds

T = TypeVar("T")


class Clock:
    """Milliseconds since `start`, less the time that the reader of the events took between two of them."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self._zero = perf_counter()

    def ms(self) -> float:
        return (perf_counter() - self._zero) * 1000

    def outside(self, events: Iterator[T]) -> Iterator[T]:
        """`events`, with the clock standing still while each is with its reader."""
        for event in events:
            with self.paused():
                yield event

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The clock stands still in the block."""
        began = perf_counter()
        yield
        self._zero += perf_counter() - began


class Watch(Probe):
    """A probe that raises Stopped from within a pass, so that Stop does not wait for the pass to end."""

    def __init__(self, stop: Stop, attention_layers: Collection[int] = (), routing: bool = False) -> None:
        super().__init__(attention_layers, routing)
        self._stop = stop
        self._looked = perf_counter()
        self.longest_blind = 0.0  # seconds between two looks at Stop, at most

    def start(self) -> None:
        super().start()
        self._looked = self._last

    def lap(self, phase: str) -> None:
        super().lap(phase)
        if self._last - self._looked > _LOOK_EVERY:
            self.look()

    def look(self) -> None:
        """Raise Stopped if the person pressed Stop."""
        now = perf_counter()
        self.longest_blind = max(self.longest_blind, now - self._looked)
        self._looked = now
        if self._stop():
            raise Stopped
