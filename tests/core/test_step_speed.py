"""The compiled step against the plain path of the same decoder.

A ratio of processor time on one thread, so that neither a slow nor a busy machine matters.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from time import process_time

import pytest

from core.config import RunConfig
from core.decoder.probe import Probe
from core.engine.backend import Session
from core.engine.local import LocalBackend
from core.models.find import silent

pytestmark = pytest.mark.usefixtures("one_thread")

CONTEXT, STEPS, PAIRS = 64, 4, 7


@pytest.fixture(scope="module")
def sessions() -> Iterator[tuple[Session, Session]]:
    """The compiled step and plain torch, the same tokens held in both."""
    with pytest.MonkeyPatch.context() as patch:
        yield _session(), _session(patch)


def _session(patch: pytest.MonkeyPatch | None = None) -> Session:
    if patch is not None:
        patch.setenv("INFERENCE_PLAYGROUND_FUSED", "0")
    backend = LocalBackend.load(RunConfig().set(["engine.device=cpu"]), silent)
    assert (backend.fused is None) == (patch is not None)
    session = backend.session(RunConfig(), CONTEXT + STEPS, Probe())
    session.forward(list(range(100, 100 + CONTEXT)))
    return session


def _seconds(session: Session) -> float:
    began = process_time()
    for token in range(STEPS):
        session.forward([200 + token])
    seconds = process_time() - began
    session.trim(CONTEXT)
    return seconds


def test_that_the_compiled_step_is_faster_than_plain_torch(sessions: tuple[Session, Session]) -> None:
    compiled, plain = sessions
    _seconds(compiled), _seconds(plain)
    ratios = [_seconds(plain) / _seconds(compiled) for _ in range(PAIRS)]
    assert median(ratios) >= 1.5, ratios
