"""Several configurations on the same prompt: interleaved repeats, and what they say about speed, memory and tokens."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from core.events import MEASURE, CompareProgress, Event, RunRequest, Token
from core.metrics import METRICS
from core.trace import Trace

Stop = Callable[[], bool]


class Runs(Protocol):
    """What a comparison needs of an engine."""

    def run(self, request: RunRequest, stop: Stop) -> Iterator[Event]: ...


def compare(engine: Runs, requests: Sequence[RunRequest], repeats: int, stop: Stop) -> Iterator[tuple[int, Event]]:
    """A warm-up of each request with its own inspect, then `repeats` rounds ABAB… that measure and capture nothing.

    Every event comes with its column; a CompareProgress goes before each run. Ends early once `stop` says so.
    """
    for repeat in range(repeats + 1):
        for column, request in enumerate(requests):
            if stop():
                return
            yield column, CompareProgress(column, repeat, repeats)
            timed = request if repeat == 0 else dataclasses.replace(request, inspect=MEASURE)
            for event in engine.run(timed, stop):
                yield column, event


@dataclass(frozen=True)
class Spread:
    """Repeated values of one number, and an interval for their median (None where there are too few to give one)."""

    median: float
    low: float | None
    high: float | None
    values: tuple[float, ...]


@dataclass(frozen=True)
class MetricComparison:
    """One metric over the columns. ratios: to column A, pair by pair of the interleaved repeats.

    noise: the difference from A lies inside the spread. None where the metric is unavailable.
    """

    name: str
    columns: tuple[Spread | None, ...]
    ratios: tuple[Spread | None, ...]
    noise: tuple[bool | None, ...]


@dataclass(frozen=True)
class Agreement:
    """How the tokens of a column agree with those of A; None where the prompts differ or nothing was captured.

    first_divergence: index among the generated tokens. kl: mean over `positions` of a lower bound, in nats, of the
    divergence of the column's distribution from A's, at the generated positions that follow the same tokens.
    """

    column: int
    tokens_equal: bool | None
    first_divergence: int | None
    kl: float | None
    kl_max: float | None
    positions: int


@dataclass(frozen=True)
class Comparison:
    """interval: how the intervals were made. captured: the timings include the cost of captures."""

    metrics: tuple[MetricComparison, ...]
    agreements: tuple[Agreement, ...]
    interval: str
    captured: bool

    def metric(self, name: str) -> MetricComparison:
        return next(metric for metric in self.metrics if metric.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, each metric with its unit, badge and definition."""
        plain = dataclasses.asdict(self)
        for metric in plain["metrics"]:
            known = METRICS[metric["name"]]
            metric |= {"unit": known.unit, "badge": known.badge, "definition": known.definition}
        for agreement in plain["agreements"]:
            agreement["kl_badge"] = "derived"
        return plain


def summarise(traces: Sequence[Sequence[Trace]]) -> Comparison:
    """Compare columns of finished runs, A first; traces[c] are the runs of column c in order.

    Numbers come from the runs that captured nothing, unless a column has none of those. Tokens and distributions come
    from each column's first run, and the first that captured distributions. Leave out a warm-up that captured nothing.
    """
    quiet = [[trace for trace in column if not _captures(trace)] for column in traces]
    captured = not all(quiet)
    timed = [list(column) for column in traces] if captured else quiet
    compared = tuple(_metric(name, timed) for name in METRICS)
    agreements = tuple(_agreement(number, traces[0], column) for number, column in enumerate(traces))
    return Comparison(compared, agreements, _interval_name(min(map(len, timed), default=0)), captured)


def _captures(trace: Trace) -> bool:
    return trace.started is None or trace.started.inspect != MEASURE


# These follow from the configuration and the tokens alone: a difference between two columns is never noise.
_SPECULATION = {"rounds", "acceptance_rate", "mean_acceptance_length"}
_EXACT = {"weight_bytes", "kv_bytes", "kv_tokens", "prompt_tokens", "cached_tokens", "new_tokens", *_SPECULATION}


def _metric(name: str, traces: Sequence[Sequence[Trace]]) -> MetricComparison:
    values = [[_value(trace, name) for trace in column] for column in traces]
    ratios = [_ratios(values[0], column) for column in values]
    spreads = tuple(spread([value for value in column if value is not None]) for column in values)
    noise = tuple(_is_noise(name, ratio) for ratio in ratios)
    return MetricComparison(name, spreads, tuple(ratios), (None, *noise[1:]))


def _value(trace: Trace, name: str) -> float | None:
    return None if trace.finished is None else trace.finished.metrics.get(name)


def _ratios(base: Sequence[float | None], values: Sequence[float | None]) -> Spread | None:
    """Each value over A's of the same round, so that a drift of the machine cancels."""
    return spread([value / reference for reference, value in zip(base, values) if reference and value is not None])


def _is_noise(name: str, ratio: Spread | None) -> bool | None:
    if ratio is None:
        return None
    if name in _EXACT:
        return False
    return ratio.low is None or ratio.high is None or ratio.low <= 1 <= ratio.high


def spread(values: Sequence[float]) -> Spread | None:
    """The median of `values` and the order-statistics interval for it; None when there are no values."""
    if not values:
        return None
    ordered, rank = sorted(values), _rank(len(values))
    low, high = (None, None) if len(values) < 2 else (ordered[rank], ordered[-1 - rank])
    return Spread(statistics.median(values), low, high, tuple(values))


def _rank(count: int) -> int:
    """How many values to leave out at each end for the narrowest interval of at least 95 %, or none at all."""
    return max((rank for rank in range((count + 1) // 2) if _coverage(count, rank) >= 0.95), default=0)


def _coverage(count: int, rank: int) -> float:
    """Probability that the median lies between the values of this rank from below and from above."""
    outside: int = 2 * sum(math.comb(count, i) for i in range(rank + 1))
    return 1 - float(outside / 2**count)


def _interval_name(count: int) -> str:
    if count < 2:
        return "one run each: no interval"
    return f"median of {count} repeats; order-statistics interval with {100 * _coverage(count, _rank(count)):.1f} % coverage"


def _agreement(column: int, base: Sequence[Trace], runs: Sequence[Trace]) -> Agreement:
    if not base or not runs or _ids(base[0].prompt_tokens) != _ids(runs[0].prompt_tokens):
        return Agreement(column, None, None, None, None, 0)
    diverged = _divergence(_ids(base[0].tokens), _ids(runs[0].tokens))
    bounds = _bounds(_inspected(base), _inspected(runs))
    mean = sum(bounds) / len(bounds) if bounds else None
    return Agreement(column, diverged is None, diverged, mean, max(bounds, default=None), len(bounds))


def _ids(tokens: Sequence[Token]) -> list[int]:
    return [token.id for token in tokens]


def _divergence(one: Sequence[int], other: Sequence[int]) -> int | None:
    """The first place where two texts differ, or where one ends before the other."""
    pairs = zip(one, other)
    different = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
    return different if different < max(len(one), len(other)) else None


def _inspected(traces: Sequence[Trace]) -> Trace:
    return next((trace for trace in traces if trace.tokens and trace.tokens[0].top_ids is not None), traces[0])


def _bounds(base: Trace, other: Trace) -> list[float]:
    """A bound at each position that follows the same text: up to the first divergence, and at it."""
    diverged = _divergence(_ids(base.tokens), _ids(other.tokens))
    shared = len(base.tokens) if diverged is None else diverged + 1
    bounds = (kl_lower_bound(a, b) for a, b in zip(base.tokens[:shared], other.tokens[:shared]))
    return [bound for bound in bounds if bound is not None]


_SMALLEST = 1e-7  # mass below the resolution of captured float32 probabilities


def kl_lower_bound(base: Token, other: Token) -> float | None:
    """Nats of KL(base ‖ other) that the captured alternatives prove; None where nothing was captured.

    Both distributions are coarse-grained to the tokens that both kept and one bucket for all others. By the data-processing
    inequality the divergence of the coarse ones is at most the true one.
    """
    if base.top_ids is None or other.top_ids is None or base.top_probabilities is None or other.top_probabilities is None:
        return None
    _, mine, its = np.intersect1d(base.top_ids, other.top_ids, return_indices=True)
    p, q = base.top_probabilities[mine].astype(np.float64), other.top_probabilities[its].astype(np.float64)
    p, q = np.append(p, max(0.0, 1 - p.sum())), np.append(q, max(0.0, 1 - q.sum()))
    present = p > _SMALLEST
    return max(0.0, float((p[present] * np.log(p[present] / np.maximum(q[present], _SMALLEST))).sum()))
