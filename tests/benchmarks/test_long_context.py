"""Steps after 8,000 tokens: as long as after 128 with linear attention, and shorter with a window than with full attention.

What is compared is measured in turns in one run.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from time import perf_counter

import pytest

from core.calibration import calibration_tokens
from core.config import RunConfig
from core.decoder.probe import Probe
from core.engine.backend import Session
from core.engine.local import LocalBackend
from core.models.default import is_fetched

SHORT, LONG, STEPS = 128, 8000, 60
pytestmark = pytest.mark.skipif(not is_fetched(), reason="the default model is not fetched")


@pytest.mark.parametrize("technique", ["linear_elu", "performer", "linear_learned"])
def test_that_a_step_takes_as_long_after_many_tokens_as_after_few(technique: str) -> None:
    sessions = [session_after(length, f"attention.name={technique}") for length in (SHORT, LONG)]
    short, long = medians(sessions)
    print(f"\n{technique}: {1000 * short:.2f} ms a step after {SHORT} tokens, {long / short:.3f} times that after {LONG}")
    assert long / short < 1.1
    assert len({session.kv_bytes for session in sessions}) == 1


def test_that_a_window_with_sinks_decodes_faster_than_full_attention() -> None:
    settings = ("attention.name=full",), ("attention.name=sink_window", "attention.window=512", "attention.sinks=4")
    full, window = medians([session_after(LONG, *each) for each in settings])
    told = f"full {1000 * full:.2f} ms a step, sink_window {1000 * window:.2f}, {full / window:.2f} times as fast"
    print(f"\nafter {LONG} tokens: {told}")
    assert full / window >= 1.5


def session_after(length: int, *settings: str) -> Session:
    """A session that has read so many tokens."""
    config = RunConfig().set(settings)
    backend = LocalBackend.load(config, lambda *_: None)
    session = backend.session(config, LONG + STEPS, Probe())
    session.forward(calibration_tokens(backend.tokenizer, length))
    return session


def medians(sessions: Sequence[Session]) -> list[float]:
    """Seconds of a step of each."""
    times = [[timed(session) for session in sessions] for _ in range(STEPS)]
    return [median(column) for column in zip(*times, strict=True)]


def timed(session: Session) -> float:
    began = perf_counter()
    session.forward([0])
    return perf_counter() - began
