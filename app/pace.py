"""How often the window looks at a job, and how much of the processor that takes. Free of Qt."""

from __future__ import annotations

from dataclasses import dataclass


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
