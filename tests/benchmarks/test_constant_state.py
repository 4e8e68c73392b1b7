"""A step of linear attention takes as long after 8,000 tokens as after 128, both measured in turns in one run."""

from __future__ import annotations

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


@pytest.mark.skipif(not is_fetched(), reason="the default model is not fetched")
@pytest.mark.parametrize("technique", ["linear_elu", "performer", "linear_learned"])
def test_that_a_step_takes_as_long_after_many_tokens_as_after_few(technique: str) -> None:
    config = RunConfig().set([f"attention.name={technique}"])
    backend = LocalBackend.load(config, lambda *_: None)
    tokens = calibration_tokens(backend.tokenizer, LONG)
    sessions = [backend.session(config, LONG + STEPS, Probe()) for _ in (SHORT, LONG)]
    for session, length in zip(sessions, (SHORT, LONG), strict=True):
        session.forward(tokens[:length])
    times = [[timed(session) for session in sessions] for _ in range(STEPS)]
    short, long = (median(column) for column in zip(*times, strict=True))
    print(f"\n{technique}: {1000 * short:.2f} ms a step after {SHORT} tokens, {long / short:.3f} times that after {LONG}")
    assert long / short < 1.1
    assert len({session.kv_bytes for session in sessions}) == 1


def timed(session: Session) -> float:
    """Seconds of a step."""
    began = perf_counter()
    session.forward([0])
    return perf_counter() - began
