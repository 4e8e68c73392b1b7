"""What leaves the engine's process, and when."""

import time
from typing import Any, cast

import numpy as np

from app.messages import Envelope
from app.outbox import LARGEST_BATCH, Outbox
from core.events import AttentionCaptured, TextDelta

PAUSE = 0.3


class _Pipe:
    """Notes when a batch came and how many bytes it has."""

    def __init__(self) -> None:
        self.batches: list[tuple[float, int]] = []

    def send_bytes(self, batch: bytes) -> None:
        self.batches.append((time.monotonic(), len(batch)))


def _large() -> Envelope:
    weights = np.zeros((9, 1, LARGEST_BATCH // 36), np.float16)  # half of a batch
    return Envelope(1, 0, AttentionCaptured(0, 0, 0, weights, np.arange(1, dtype=np.int32)))


def _wait(pipe: _Pipe, batches: int) -> None:
    until = time.monotonic() + 20
    while len(pipe.batches) < batches:
        assert time.monotonic() < until
        time.sleep(0.005)


def test_that_small_events_gather_and_large_ones_do_not_wait() -> None:
    pipe = _Pipe()
    outbox = Outbox(cast(Any, pipe), lambda: PAUSE)
    outbox.put(Envelope(1, 0, TextDelta("first")))
    _wait(pipe, 1)
    for _ in range(5):
        outbox.put(_large())
    _wait(pipe, 3)
    (first, _), (second, full), (third, _), *_ = pipe.batches
    assert second - first >= PAUSE, "the events after the first one gathered"
    assert full >= LARGEST_BATCH
    assert third - second < PAUSE, "more waits than a batch holds"
