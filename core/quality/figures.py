"""From segments to figures with standard errors: names, badges and definitions. Free of torch.

A segment is a whole window, or where there are few windows a stretch of one: tokens beside each other depend on each other,
so the standard errors treat segments, not tokens, as independent (batch means; cluster-robust for segments of unequal size).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from core.charts.chart import Badge
from core.metrics import Metric
from core.quality.results import NeedleMeasured, QualityMeasured, Segment

FIGURES: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("perplexity", "perplexity", "", "derived", "exp(mean negative log-likelihood of the text's tokens)"),
        Metric("base_perplexity", "unmodified", "", "derived", "perplexity of the unmodified model on the same tokens"),
        Metric("perplexity_ratio", "ratio", "", "derived", "perplexity / perplexity of the unmodified model, token by token"),
        Metric("mean_kl", "mean KL", "nats", "derived", "mean KL divergence of the unmodified model's next-token distribution "
               "to this one's, over the whole vocabulary"),
        Metric("same_top1", "same top 1", "", "measured", "share of tokens where both find the same token likeliest"),
    )
}  # fmt: skip

Figures = dict[str, float | None]


def figures(segments: Sequence[Segment]) -> Figures:
    """Every figure and its standard error under `name_se` (None where one segment is all there is), and `tokens`.

    Perplexities and their ratio are exponentials of means, so by the delta method their errors are value × error of the mean.
    """
    weights = np.array([segment.tokens for segment in segments], float)
    columns = {name: np.array([getattr(segment, name) for segment in segments]) for name in _MEANS}
    nll, base_nll, kl, same = (_mean(values, weights) for values in columns.values())
    ratio = _mean(columns["nll"] - columns["base_nll"], weights)  # paired: what both find hard cancels
    return {
        **_exponential("perplexity", *nll), **_exponential("base_perplexity", *base_nll),
        **_exponential("perplexity_ratio", *ratio),
        "mean_kl": kl[0], "mean_kl_se": kl[1], "same_top1": same[0], "same_top1_se": same[1],
        "tokens": float(weights.sum()),
    }  # fmt: skip


def segment_figures(segment: Segment) -> dict[str, float | int]:
    """One segment in the words of `figures`."""
    return {
        "first": segment.first, "tokens": segment.tokens, "perplexity": float(np.exp(segment.nll)),
        "base_perplexity": float(np.exp(segment.base_nll)), "mean_kl": segment.kl, "same_top1": segment.same_top1,
    }  # fmt: skip


def quality_json(measured: QualityMeasured) -> dict[str, Any]:
    """Everything measured, as plain JSON."""
    found = figures(measured.segments)
    missing: dict[str, Badge] = {name: "unavailable" for name, value in found.items() if value is None}
    badges: dict[str, Badge] = {name: FIGURES[name.removesuffix("_se")].badge for name in found if name != "tokens"}
    return {
        **found,
        "tokens": int(sum(segment.tokens for segment in measured.segments)),
        "mode": measured.mode, "context": measured.context, "base_context": measured.base_context, "text": measured.text,
        "prompt_tokens": measured.prompt_tokens,
        "segments": [segment_figures(segment) for segment in measured.segments],
        "standard_errors": f"batch means over {len(measured.segments)} segments; of perplexities by the delta method",
        "kv_bytes": measured.kv_bytes, "kv_tokens": measured.kv_tokens, "seconds": measured.seconds,
        "config": measured.config.to_dict(), "base_config": measured.base.to_dict(), "model": measured.info.name,
        "badges": {**badges, **missing, "tokens": "measured", "kv_bytes": "measured", "kv_tokens": "measured"},
        "definitions": {name: metric.definition for name, metric in FIGURES.items()},
        "environment": measured.environment,
    }  # fmt: skip


def needle_json(measured: NeedleMeasured) -> dict[str, Any]:
    """The grid as plain JSON; matrices are rows of depths."""
    return {
        "lengths": list(measured.lengths), "depths": list(measured.depths), "trials": measured.trials,
        "recall": measured.recall.tolist(), "log_probability": measured.log_probability.tolist(),
        "text": measured.text, "seconds": measured.seconds, "config": measured.config.to_dict(), "model": measured.info.name,
        "badges": {"recall": "measured", "log_probability": "measured"}, "environment": measured.environment,
    }  # fmt: skip


_MEANS = ("nll", "base_nll", "kl", "same_top1")


def _mean(values: np.ndarray, weights: np.ndarray) -> tuple[float, float | None]:
    """Weighted mean and its standard error: of a ratio of sums over independent segments."""
    shares, count = weights / weights.sum(), len(values)
    mean = float((shares * values).sum())
    if count < 2:
        return mean, None
    return mean, float(np.sqrt(count / (count - 1) * (shares**2 * (values - mean) ** 2).sum()))


def _exponential(name: str, mean: float, error: float | None) -> Figures:
    value = float(np.exp(mean))
    return {name: value, f"{name}_se": None if error is None else value * error}
