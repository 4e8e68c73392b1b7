"""Runs that go on past the model's context, where no query looks further back than the cache holds."""

from __future__ import annotations

import pytest
from engine_harness import Harness

from core.errors import BadInput

CONTEXT = 256
ENDLESS = ["cache.name=sinks cache.sinks=2 cache.window=30", "cache.name=rolling cache.window=32"]


@pytest.fixture
def local(harness: Harness) -> Harness:
    if harness.config.engine.name != "local":
        pytest.skip("only the local engine has such caches")
    return harness


@pytest.mark.parametrize("settings", ENDLESS)
def test_that_a_bounded_cache_generates_past_the_context(local: Harness, settings: str) -> None:
    trace = local.trace("", *settings.split(), "run.max_new_tokens=60", prompt_tokens=tuple(range(3, 233)))
    assert trace.finished is not None
    assert trace.finished.reason == "length"
    assert len(trace.tokens) == 60


@pytest.mark.parametrize("settings", ENDLESS)
def test_that_a_bounded_cache_reads_a_prompt_longer_than_the_context_in_any_chunks(local: Harness, settings: str) -> None:
    prompt = tuple(3 + i * i % 200 for i in range(CONTEXT + 70))
    wanted = [local.ids("", *settings.split(), f"run.prefill_chunk={chunk}", prompt_tokens=prompt) for chunk in (1000, 100, 17)]
    assert wanted[0] == wanted[1] == wanted[2]


@pytest.mark.parametrize("settings", ["cache.name=sinks cache.window=255", "cache.name=dynamic"])
def test_that_a_cache_that_reaches_past_the_context_ends_with_it(local: Harness, settings: str) -> None:
    prompt = tuple(range(3, 233))
    trace = local.trace("", *settings.split(), "run.max_new_tokens=60", prompt_tokens=prompt)
    assert trace.finished is not None
    assert trace.finished.reason == "context"
    with pytest.raises(BadInput, match="forget its beginning"):
        local.trace("", *settings.split(), prompt_tokens=(*prompt, *prompt))
