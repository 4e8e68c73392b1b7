"""What an inspected run shows: phases, alternatives, and attention within its budget."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engine_harness import VOCABULARY, Harness
from hypothesis import given
from hypothesis import strategies as st

from core.engine.verdict import alternatives, likeliest
from core.events import INSPECT, MEASURE, CaptureEnded, Inspect
from core.trace import record


def test_that_phases_add_up_to_their_step(harness: Harness) -> None:
    trace = harness.trace(inspect=INSPECT)
    for step in trace.steps:
        stage = "prefill" if step.index < 0 else "decode"
        parts = sum(ms for name, ms in step.phases.items() if name.startswith(f"{stage}."))
        top = sum(ms for name, ms in step.phases.items() if "." not in name)
        assert 0 < parts <= step.phases[stage] * 1.001
        assert top <= step.ms * 1.001
        assert {f"{stage}.attention", f"{stage}.ffn", f"{stage}.head", "sampling", "capture"} <= set(step.phases)


def test_that_alternatives_are_the_models_own_distribution(harness: Harness) -> None:
    measured, inspected = harness.trace("the", inspect=MEASURE), harness.trace("the", inspect=Inspect(top=VOCABULARY))
    assert measured.tokens[0].top_ids is None
    for token in inspected.tokens:
        assert token.top_ids is not None
        assert token.top_probabilities is not None
        assert token.top_probabilities.sum() == pytest.approx(1, abs=1e-4)
        assert token.top_ids[0] == token.id  # greedy
        assert token.probability == pytest.approx(float(token.top_probabilities[0]))
        seen = token.top_probabilities[token.top_probabilities > 0].astype(np.float64)
        assert token.entropy == pytest.approx(-(seen * np.log(seen)).sum(), abs=1e-3)
        assert len(token.top_texts) == 10


def test_that_attention_rows_are_distributions_over_earlier_tokens_without_rejected_ones(harness: Harness) -> None:
    trace = harness.trace(
        "the cat the cat the", "decoding.name=prompt_lookup", "run.max_new_tokens=40", inspect=Inspect(attention_layers="all")
    )
    assert sorted(trace.attention) == [0, 1]
    for maps in trace.attention.values():
        expected = 0
        for seen in maps:
            heads, rows, keys = seen.weights.shape
            assert (seen.first_query, heads) == (expected, 4)
            assert seen.key_positions.tolist() == list(range(seen.first_query + rows))
            assert keys == len(seen.key_positions)
            np.testing.assert_allclose(seen.weights.astype(np.float32).sum(-1), 1, atol=0.02)
            expected = seen.first_query + rows
        assert expected >= len(trace.all_tokens) - 1


def test_that_only_the_last_rows_of_a_long_prompt_are_kept(harness: Harness) -> None:
    prompt = tuple(range(60))
    inspect = Inspect(attention_layers="1", rows=10)
    trace = harness.trace("", "run.prefill_chunk=16", "run.max_new_tokens=1", prompt_tokens=prompt, inspect=inspect)
    assert [(seen.first_query, seen.weights.shape[1]) for seen in trace.attention[1]] == [(50, 10)]


def test_that_capture_ends_when_its_budget_is_spent_and_the_run_goes_on(harness: Harness) -> None:
    inspect = Inspect(attention_layers="all", budget=3000)
    events = list(harness.events(harness.request("the cat", inspect=inspect)))
    ended = [event for event in events if isinstance(event, CaptureEnded)]
    trace = record(events)
    assert len(ended) == 1
    kept = [seen for maps in trace.attention.values() for seen in maps]
    assert 0 < sum(seen.weights.nbytes for seen in kept) <= 3000
    assert max(seen.step for seen in kept) < ended[0].step
    assert len(trace.tokens) == 24


def test_that_alternatives_are_those_of_a_plain_softmax() -> None:
    """In float64, with an entry at minus infinity, as masked logits have it."""
    logits = 4 * torch.randn(2, 3001, generator=torch.Generator().manual_seed(0))
    logits[1, 17] = -torch.inf
    for row, token, seen in zip(logits.double(), (5, 17), alternatives(logits, (5, 17), 20, str), strict=True):
        expected, ids = row.softmax(-1).topk(20)
        assert seen.top_ids.tolist() == ids.tolist()
        np.testing.assert_allclose(seen.top_probabilities, expected.numpy(), rtol=1e-5)
        assert seen.probability == pytest.approx(float(row.softmax(-1)[token]), rel=1e-5)
        assert seen.entropy == pytest.approx(float(torch.special.entr(row.softmax(-1)).sum()), rel=1e-5)
        assert seen.top_texts == tuple(map(str, ids[:10].tolist()))


@given(st.integers(1, 400), st.integers(1, 40000), st.integers(1, 50))
def test_that_the_likeliest_are_those_of_a_whole_sort(count: int, size: int, levels: int) -> None:
    """Few levels make many equal logits."""
    logits = np.random.default_rng(size).integers(0, levels, size).astype(np.float32)
    assert likeliest(logits, count).tolist() == np.argsort(-logits, kind="stable")[:count].tolist()
