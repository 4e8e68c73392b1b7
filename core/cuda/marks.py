"""Times of a pass's phases, from marks on the device's own timeline that are read when it has come past them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch

from core.decoder.probe import Probe


class Mark(Protocol):
    """A point of the timeline, once recorded. torch.cuda.Event is one."""

    def record(self) -> None: ...

    def elapsed_time(self, later: Any, /) -> float:
        """Milliseconds to a later mark of the same kind."""


class Moment:
    """A mark of the processor, whose timeline is the clock."""

    def record(self) -> None:
        self._seconds = perf_counter()

    def elapsed_time(self, later: Moment, /) -> float:
        return (later._seconds - self._seconds) * 1000


def mark_on(device: torch.device) -> Callable[[], Mark]:
    """What makes marks of a device. An event does not wait, nor does the stream for it."""
    return event if device.type == "cuda" else Moment


def event() -> Mark:
    """A timed CUDA event."""
    made: Mark = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    return made


class MarkingProbe(Probe):
    """Stands for another probe during one pass: sets a mark at each lap, and charges them all at `settle`."""

    def __init__(self, probe: Probe, mark: Callable[[], Mark]) -> None:
        super().__init__(probe.attention_layers)
        self.attention_rows = probe.attention_rows
        self._probe, self._mark = probe, mark
        self._marks: list[tuple[str, Mark]] = []

    def start(self) -> None:
        self._set("")

    def lap(self, phase: str) -> None:
        self._set(phase)

    def attention(self, layer: int, weights: np.ndarray, key_positions: np.ndarray, mass: np.ndarray | None = None) -> None:
        self._probe.attention(layer, weights, key_positions, mass)

    def settle(self) -> None:
        """Charge the phases. The device must have come past the last mark, as it has when the logits are here."""
        for (_, before), (phase, after) in pairwise(self._marks):
            self._probe.add(phase, before.elapsed_time(after) / 1000)
        self._marks.clear()
        self._probe.start()

    def _set(self, phase: str) -> None:
        mark = self._mark()
        mark.record()
        self._marks.append((phase, mark))
