"""Comparisons: the order of runs, intervals, noise, tokens and the bound on divergence."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.compare import Stop, compare, kl_lower_bound, spread, summarise
from core.config import RunConfig
from core.events import (
    INSPECT,
    MEASURE,
    CompareProgress,
    Event,
    Inspect,
    Memory,
    RunFinished,
    RunRequest,
    RunStarted,
    Step,
    TextDelta,
    Token,
)
from core.metrics import METRICS
from core.models.info import ModelInfo
from core.trace import Trace, record

INFO = ModelInfo("m", "/m", "gguf", "llama", "local", 1, 8, 1, 1, 8, 8, 10, 100, 1000)


class Echo:
    """Says which request it was given."""

    def __init__(self) -> None:
        self.asked: list[RunRequest] = []

    def run(self, request: RunRequest, stop: Stop) -> Iterator[Event]:
        self.asked.append(request)
        yield TextDelta(request.prompt)


def trace(tokens: Sequence[Token], tpot: float, inspect: Inspect = MEASURE, prompt: int = 1) -> Trace:
    metrics: dict[str, float | None] = {**dict.fromkeys(METRICS), "tpot_ms": tpot, "kv_bytes": tpot}
    given_token = Token(0, prompt, "p", "prompt")
    return record(
        [
            RunStarted(RunConfig(), INFO, "p", False, (given_token,), inspect, {}),
            Step(-1, tuple(tokens), 1.0, {}, 1, 1),
            RunFinished("length", "", metrics, Memory(1, 1, None, 0, None, None)),
        ]
    )


def token(index: int, id_: int, top: Sequence[int] = (), probabilities: Sequence[float] = ()) -> Token:
    plain = Token(index, id_, "t", "sampled")
    if not top:
        return plain
    return replace(plain, top_ids=np.array(top, np.int32), top_probabilities=np.array(probabilities, np.float32))


def runs(ids: Sequence[int], tpots: Sequence[float]) -> list[Trace]:
    return [trace([token(i + 1, id_) for i, id_ in enumerate(ids)], tpot) for tpot in tpots]


def test_that_runs_are_interleaved_after_an_inspected_warm_up() -> None:
    engine = Echo()
    requests = [RunRequest(RunConfig(), name, inspect=INSPECT) for name in "AB"]
    events = list(compare(engine, requests, 2, lambda: False))
    assert [request.prompt for request in engine.asked] == list("ABABAB")
    assert [request.inspect for request in engine.asked] == [INSPECT] * 2 + [MEASURE] * 4
    assert events[:2] == [(0, CompareProgress(0, 0, 2)), (0, TextDelta("A"))]
    assert events[-2:] == [(1, CompareProgress(1, 2, 2)), (1, TextDelta("B"))]


def test_that_stop_ends_a_comparison() -> None:
    engine = Echo()
    list(compare(engine, [RunRequest(RunConfig())] * 2, 5, lambda: len(engine.asked) >= 3))
    assert len(engine.asked) == 3


def test_that_a_clear_difference_is_told_from_noise() -> None:
    slow = [20.0, 21, 19.5, 20.5, 20.2, 19.9]
    comparison = summarise([runs([1], slow), runs([1], [value / 2 for value in slow]), runs([1], [*slow[1:], slow[0]])])
    tpot = comparison.metric("tpot_ms")
    assert tpot.noise == (None, False, True)
    assert tpot.ratios[1] is not None
    assert tpot.ratios[1].median == pytest.approx(0.5)
    assert comparison.metric("ttft_ms").columns == (None, None, None)
    assert "96.9 %" in comparison.interval


def test_that_bytes_differ_for_good_and_single_timings_never_do() -> None:
    comparison = summarise([runs([1], [4.0]), runs([1], [8.0])])
    assert comparison.metric("kv_bytes").noise[1] is False
    assert comparison.metric("tpot_ms").noise[1] is True
    assert comparison.interval == "one run each: no interval"


def test_that_timings_leave_out_runs_that_captured() -> None:
    inspected = trace([token(1, 1)], 100.0, INSPECT)
    comparison = summarise([[inspected, *runs([1], [4.0])], [inspected, *runs([1], [8.0])]])
    assert not comparison.captured
    assert comparison.metric("tpot_ms").columns[1] == spread([8.0])
    assert summarise([[inspected], [inspected]]).captured


@pytest.mark.parametrize(
    ("mine", "its", "place"),
    [([1, 2, 3], [1, 2, 3], None), ([1, 2, 3], [1, 5, 3], 1), ([1, 2, 3], [1, 2], 2), ([1], [2], 0)],
)
def test_that_the_first_diverging_token_is_found(mine: list[int], its: list[int], place: int | None) -> None:
    agreement = summarise([runs(mine, [1.0]), runs(its, [1.0])]).agreements[1]
    assert (agreement.tokens_equal, agreement.first_divergence) == (place is None, place)


def test_that_different_prompts_are_not_compared_token_by_token() -> None:
    agreement = summarise([[trace([token(1, 1)], 1.0)], [trace([token(1, 1)], 1.0, prompt=9)]]).agreements[1]
    assert agreement.tokens_equal is None


def test_that_divergence_is_summed_up_to_the_first_different_token_and_no_further() -> None:
    a = [token(i, id_, (1, 2), (0.6, 0.4)) for i, id_ in enumerate([1, 1, 1])]
    b = [token(i, id_, (1, 2), (0.5, 0.5)) for i, id_ in enumerate([1, 2, 1])]
    agreement = summarise([[trace(a, 1.0, INSPECT)], [trace(b, 1.0, INSPECT)]]).agreements[1]
    assert agreement.positions == 2
    assert agreement.kl == pytest.approx(0.6 * np.log(0.6 / 0.5) + 0.4 * np.log(0.4 / 0.5), rel=1e-5)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_that_the_bound_never_exceeds_the_true_divergence(seed: int, top: int) -> None:
    generator = np.random.default_rng(seed)
    p, q = generator.dirichlet(np.full(30, 0.3), size=2) + 1e-9
    p, q = p / p.sum(), q / q.sum()
    a, b = (token(0, 0, np.argsort(-x)[:top].tolist(), np.sort(x)[::-1][:top].tolist()) for x in (p, q))
    bound = kl_lower_bound(a, b)
    assert bound is not None
    assert 0 <= bound <= (p * np.log(p / q)).sum() + 1e-5
    assert kl_lower_bound(a, a) == pytest.approx(0, abs=1e-9)


def test_that_a_comparison_is_plain_json() -> None:
    plain = summarise([runs([1], [4.0, 5.0]), runs([2], [8.0, 9.0])]).to_dict()
    assert json.loads(json.dumps(plain))["metrics"][0]["unit"] == "ms"


@pytest.mark.parametrize(("count", "out"), [(5, 0), (6, 0), (9, 1), (15, 3), (20, 5)])
def test_that_the_interval_is_the_tabulated_one_for_a_median(count: int, out: int) -> None:
    interval = spread([float(n) for n in range(count)])
    assert interval is not None
    assert (interval.low, interval.high) == (out, count - 1 - out)
