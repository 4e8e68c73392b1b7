"""How often the window looks at a job, and how much of the processor that takes. Free of Qt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import process_time


@dataclass(frozen=True)
class Pace:
    """How much of the processor the window takes while a job runs.

    beat_ms: between two looks at the engine. flush_every: seconds between two batches of events, less than that so that every
    look finds one. say_every: seconds between two changes of the status line. rest: a refresh of a dock is followed by so
    many times its own length without one.
    """

    beat_ms: int
    flush_every: float
    say_every: float
    rest: int


SWIFT = Pace(28, 0.02, 0.25, 40)  # a little over thirty frames a second, and lines that can just be read
SPARING = Pace(200, 0.17, 0.5, 160)
_TAKEN = 0.02  # share of one core that looks at a sparing pace may take
_LONGEST_MS = 400  # between two looks, whatever they take: a person waits for them
_STEP_MS = 50


class Sparing:
    """The sparing pace of a run: slower than SPARING where the window's own work would take more than its share."""

    def __init__(self) -> None:
        self._look: float | None = None  # processor seconds of a look, of late
        self._at = process_time()

    def begin(self) -> None:
        """What was done until now was no look."""
        self._at = process_time()

    def looked(self) -> None:
        """One more look, and all that came of it since the last."""
        now = process_time()
        spent, self._at = now - self._at, now
        self._look = spent if self._look is None else self._look + (spent - self._look) / 4

    @property
    def pace(self) -> Pace:
        wanted = round((self._look or 0.0) / _TAKEN * 1000 / _STEP_MS) * _STEP_MS
        beat_ms = min(max(SPARING.beat_ms, wanted), _LONGEST_MS)
        return replace(SPARING, beat_ms=beat_ms, flush_every=SPARING.flush_every * beat_ms / SPARING.beat_ms)
