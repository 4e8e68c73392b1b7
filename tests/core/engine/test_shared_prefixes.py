"""Runs of one engine that begin alike, over a paged cache."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_harness import Harness

from core.engine.engine import Engine
from core.trace import Trace

PROMPT = tuple(3 + i * i % 200 for i in range(70))
PAGED = ("cache.name=paged", "cache.block_size=8")


@pytest.fixture
def local(tiny_llama: Path) -> Harness:
    return Harness(Engine(), tiny_llama, "local")


def cached(trace: Trace) -> float | None:
    assert trace.finished is not None
    return trace.finished.metrics["cached_tokens"]


def fed(trace: Trace) -> int:
    """Prompt tokens that were computed."""
    done = [progress.done for progress in trace.prefill]
    return done[-1] - int(cached(trace) or 0)


def test_that_a_second_run_skips_the_blocks_that_the_first_one_left(local: Harness) -> None:
    plain = local.ids("", prompt_tokens=PROMPT)
    first, second = (local.trace("", *PAGED, prompt_tokens=PROMPT) for _ in range(2))
    assert [[token.id for token in trace.tokens] for trace in (first, second)] == [plain, plain]
    assert (cached(first), cached(second)) == (0, 64)
    assert (fed(first), fed(second)) == (70, 6)
    assert second.finished is not None
    assert second.finished.metrics["prompt_tokens"] == 70
    rate = second.finished.metrics["prefill_tokens_per_s"]
    assert rate == pytest.approx(1000 * 6 / second.steps[0].phases["prefill"])


def test_that_only_what_is_the_same_is_taken_over(local: Harness) -> None:
    local.trace("", *PAGED, prompt_tokens=PROMPT)
    other = (*PROMPT[:40], 7, *PROMPT[41:])
    trace = local.trace("", *PAGED, prompt_tokens=other)
    assert cached(trace) == 40
    assert [token.id for token in trace.tokens] == local.ids("", prompt_tokens=other)
    assert cached(local.trace("", *PAGED, "attention.name=window", "attention.window=9", prompt_tokens=PROMPT)) == 0
    assert cached(local.trace("", "cache.name=paged", "cache.block_size=16", prompt_tokens=PROMPT)) == 0


def test_that_a_whole_prompt_in_blocks_leaves_its_last_block_to_be_computed(local: Harness) -> None:
    local.trace("", *PAGED, prompt_tokens=PROMPT[:64])
    assert cached(local.trace("", *PAGED, prompt_tokens=PROMPT[:64])) == 56


def test_that_drafts_taken_back_leave_no_blocks_behind_that_are_wrong(local: Harness) -> None:
    looping = tuple([*range(10, 22)] * 5)
    for _ in range(2):
        trace = local.trace("", *PAGED, "decoding.name=prompt_lookup", "run.max_new_tokens=40", prompt_tokens=looping)
        assert [token.id for token in trace.tokens] == local.ids("", "run.max_new_tokens=40", prompt_tokens=looping)
    longer = (*looping, *(token.id for token in trace.tokens))
    again = local.trace("", *PAGED, prompt_tokens=longer)
    assert (cached(again) or 0) >= 88
    assert [token.id for token in again.tokens] == local.ids("", prompt_tokens=longer)


def test_that_bytes_are_those_of_the_blocks_of_the_run(local: Harness) -> None:
    trace = local.trace("", *PAGED, prompt_tokens=PROMPT)
    token = 2 * 2 * 2 * 8 * 2  # keys and values, layers, KV heads, head size, bfloat16
    assert trace.steps[0].kv_bytes == 9 * 8 * token
