"""Where the milliseconds of a step went."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from core.engine.watch import Clock, Watch


class Stages:
    """Phases of the current step, by dotted name, in ms."""

    def __init__(self, clock: Clock, watch: Watch) -> None:
        self._clock, self._watch = clock, watch
        self._ms: dict[str, float] = defaultdict(float)

    @contextmanager
    def charged(self, phase: str) -> Iterator[None]:
        """Charge the block to `phase`."""
        began = self._clock.ms()
        yield
        self._ms[phase] += self._clock.ms() - began

    @contextmanager
    def passing(self, stage: str) -> Iterator[None]:
        """Charge a pass over the weights to `stage`, its laps to `stage.…`, and what it spent on capturing to `capture`."""
        self._watch.start()
        with self.charged(stage):
            yield
        laps = self._watch.take()
        capture = laps.pop("capture", 0.0)
        self._ms["capture"] += capture
        self._ms[stage] -= capture
        for name, ms in laps.items():
            self._ms[f"{stage}.{name}"] += ms

    def take(self) -> dict[str, float]:
        """The phases since the last take, without those that took no time."""
        taken = {name: ms for name, ms in self._ms.items() if ms}
        self._ms.clear()
        return taken
