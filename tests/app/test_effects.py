"""What the cards say that a technique changes, before the run and after it."""

from __future__ import annotations

import pytest

from app.effects import measured, predicted
from core.config import RunConfig
from core.engine.engine import Engine
from core.events import RunFinished, RunRequest, RunStarted
from core.models.default import is_fetched
from core.trace import record
from tests.traces import INFO

PROMPT = 400  # tokens


def test_that_a_cache_that_condenses_the_prompt_is_said_to_take_both() -> None:
    config = RunConfig().set(["cache.name=snapkv", "cache.budget=100", "run.max_new_tokens=20"])
    said = predicted(config, "cache", INFO, PROMPT)
    assert said == "KV cache 1.85 MiB → 540 KiB (−71 %) at the end, 1.76 MiB before the prompt is condensed"


def test_that_other_caches_are_said_to_take_one() -> None:
    assert predicted(RunConfig().set(["run.max_new_tokens=20"]), "cache", INFO, PROMPT) == "KV cache 1.85 MiB"
    few = RunConfig().set(["run.max_new_tokens=20", "cache.name=rolling", "cache.window=42"])
    assert predicted(few, "cache", INFO, PROMPT) == "KV cache 1.85 MiB → 189 KiB (−90 %)"


@pytest.mark.skipif(not is_fetched(), reason="the default model is not fetched")
def test_that_what_is_predicted_of_a_condensed_cache_is_what_is_measured_at_the_end() -> None:
    config = RunConfig().set(["cache.name=snapkv", "run.max_new_tokens=8", "run.ignore_eos=true"])
    events = list(Engine().run(RunRequest(config, "The quick brown fox jumps over the lazy dog. " * 40)))
    started = next(event for event in events if isinstance(event, RunStarted))
    assert isinstance(events[-1], RunFinished)
    said = measured(config, "cache", record(events))
    held = said.removeprefix("KV cache ").partition(" for ")[0]
    assert f"→ {held} (" in predicted(config, "cache", started.info, len(started.prompt_tokens))
