"""The numbers of a run, by hand from a few steps."""

import pytest

from core.engine.summary import Cost, metrics
from core.events import Memory, Round, Step, Token
from core.metrics import METRICS

MEMORY = Memory(weights=100, kv=20, activations=None, draft=0, peak=None, budget=None)
COST = Cost(MEMORY, load_ms=7.0, step_bytes=500.0, bandwidth=100_000.0)


def token(ms: float = 0.0) -> Token:
    return Token(0, 0, "t", "sampled", ms)


def step(index: int, gap: float, tokens: int = 1) -> Step:
    chunk = (token(gap), *[token()] * (tokens - 1))
    return Step(index, chunk, gap, {"prefill": 40.0} if index < 0 else {"decode": gap}, 12 + index, 30)


STEPS = [step(-1, 50.0), step(0, 10.0, 3), step(1, 20.0, 1)]


def test_that_latencies_are_those_of_the_definitions() -> None:
    found = metrics(STEPS, [], 10, COST)
    assert found["ttft_ms"] == 50
    assert found["e2e_ms"] == 80
    assert found["tpot_ms"] == (80 - 50) / (5 - 1)
    assert found["itl_p50_ms"] == 15  # of chunks, not of tokens
    assert found["prefill_tokens_per_s"] == 10 / 0.04
    assert found["decode_tokens_per_s"] == pytest.approx(1000 / 7.5)


def test_that_speculation_is_counted_over_all_rounds() -> None:
    rounds = [Round(0, 0, (token(),) * 4, 2, token()), Round(1, 1, (token(),) * 2, 0, token())]
    found = metrics(STEPS, rounds, 10, COST)
    assert (found["rounds"], found["acceptance_rate"], found["mean_acceptance_length"]) == (2, 2 / 6, 2)


def test_that_bandwidth_use_is_that_of_a_pass() -> None:
    assert metrics(STEPS, [], 10, COST)["mbu"] == pytest.approx(500 / 0.015 / 100_000)
    assert metrics(STEPS, [], 10, Cost(MEMORY, 7.0, 500.0, None))["mbu"] is None


def test_that_what_does_not_apply_is_unavailable() -> None:
    for found in (metrics([], [], 10, COST), metrics(STEPS[:1], [], 10, COST)):
        assert set(found) == set(METRICS)
        missing = {"tpot_ms", "itl_p50_ms", "itl_p99_ms", "decode_tokens_per_s", "acceptance_rate", "peak_memory_bytes", "mbu"}
        assert all(found[name] is None for name in missing)
