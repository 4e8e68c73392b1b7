"""Standard errors on data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from core.quality.figures import figures
from core.quality.measure import segments
from core.quality.plan import segment_bounds, stretches
from core.quality.results import Segment
from core.quality.scores import Scores


def _correlated(draw: np.random.Generator, tokens: int) -> np.ndarray:
    """An autoregressive series: a token is hard where the one before it was."""
    noise, series = draw.normal(size=tokens), np.empty(tokens)
    series[0] = noise[0]
    for at in range(1, tokens):
        series[at] = 0.8 * series[at - 1] + 0.6 * noise[at]
    return 2.5 + series


def _figures(nll: np.ndarray, base: np.ndarray) -> dict[str, float | None]:
    found = Scores(nll, base, np.abs(nll - base), np.ones(len(nll)))
    return figures(segments(found, segment_bounds(len(nll), len(nll), stream=True)))


def test_that_the_error_of_correlated_tokens_is_that_of_repeated_experiments() -> None:
    draw = np.random.default_rng(0)
    runs = [_figures(nll, nll) for nll in (_correlated(draw, 4096) for _ in range(300))]
    spread = np.std([run["perplexity"] for run in runs], ddof=1)
    told = np.mean([run["perplexity_se"] for run in runs])
    assert told == pytest.approx(spread, rel=0.15)


def test_that_treating_tokens_as_independent_would_claim_too_much() -> None:
    nll = _correlated(np.random.default_rng(1), 4096)
    told = _figures(nll, nll)
    assert told["perplexity_se"] is not None
    assert told["perplexity_se"] > 2 * np.exp(nll.mean()) * nll.std(ddof=1) / np.sqrt(len(nll))


def test_that_segments_of_even_size_give_the_textbook_error() -> None:
    kl = np.array([0.1, 0.4, 0.2, 0.5])
    found = figures([Segment(10 * n, 10, 2.0 + value, 2.0, value, 1.0) for n, value in enumerate(kl)])
    assert found["mean_kl"] == pytest.approx(kl.mean())
    assert found["mean_kl_se"] == pytest.approx(kl.std(ddof=1) / 2)
    assert found["perplexity_se"] == pytest.approx(np.exp(2 + kl.mean()) * kl.std(ddof=1) / 2)
    assert found["perplexity_ratio"] == pytest.approx(np.exp(kl.mean()))
    assert found["base_perplexity_se"] == 0


def test_that_segments_weigh_by_their_tokens() -> None:
    found = figures([Segment(0, 30, 1.0, 1.0, 0.0, 1.0), Segment(30, 10, 2.0, 1.0, 0.4, 0.0)])
    assert found["mean_kl"] == pytest.approx(0.1)
    assert found["same_top1"] == pytest.approx(0.75)
    assert found["tokens"] == 40


def test_that_one_segment_has_no_error() -> None:
    found = figures([Segment(0, 30, 1.0, 1.0, 0.0, 1.0)])
    assert found["perplexity_se"] is None
    assert found["perplexity"] == pytest.approx(np.e)


@pytest.mark.parametrize(("scored", "context"), [(8192, 1024), (100_000, 1024), (700, 512), (63, 63), (5000, 5000)])
@pytest.mark.parametrize("stream", [False, True])
def test_that_segments_cover_everything_once_and_cross_no_window(scored: int, context: int, stream: bool) -> None:
    context = scored if stream else context
    bounds = segment_bounds(scored, context, stream)
    assert [bound[0] for bound in bounds] == [0, *(bound[1] for bound in bounds[:-1])]
    assert bounds[-1][1] == scored
    assert all(first // context == (last - 1) // context for first, last in bounds)
    assert stream is False or len(bounds) <= 32


@pytest.mark.parametrize("start", [[], [99]])
def test_that_windows_begin_as_the_model_expects_and_score_each_token_once(start: list[int]) -> None:
    tokens = list(range(20))
    found = list(stretches(tokens, start, 6))
    assert [token for stretch in found for token in stretch.targets] == (tokens if start else tokens[1:])
    for stretch in found:
        assert len(stretch.inputs) == len(stretch.targets) <= 6
        assert list(stretch.inputs[1:]) == list(stretch.targets[:-1])
        assert stretch.inputs[0] == (99 if start else stretch.targets[0] - 1)
