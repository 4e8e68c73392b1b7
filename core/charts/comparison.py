"""Configurations side by side over repeated runs: medians with their intervals, and ratios to A."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.charts.chart import Badge, Cell, Chart, Series, Table
from core.charts.labelled import column_of
from core.compare import Comparison, MetricComparison, Spread
from core.metrics import METRICS, Metric

_RATIOS = ("ttft_ms", "tpot_ms", "weight_bytes", "kv_bytes", "peak_memory_bytes")
_EMPTY = "Press Compare: here the configurations run in turns, and the medians stand side by side with their intervals."


def comparison_ttft(comparison: Comparison, labels: Sequence[str]) -> Chart:
    """Time to first token of each column."""
    return _bars(comparison, labels, "comparison_ttft", "Time to first token", ("ttft_ms",), "time (ms)")


def comparison_tpot(comparison: Comparison, labels: Sequence[str]) -> Chart:
    """Time per output token of each column."""
    return _bars(comparison, labels, "comparison_tpot", "Time per output token", ("tpot_ms",), "time (ms)")


def comparison_memory(comparison: Comparison, labels: Sequence[str]) -> Chart:
    """Bytes of weights and cache, and peak memory, of each column."""
    names = ("weight_bytes", "kv_bytes", "peak_memory_bytes")
    return _bars(comparison, labels, "comparison_memory", "Memory of each configuration", names, "memory (B)")


def comparison_ratios(comparison: Comparison, labels: Sequence[str]) -> Chart:
    """Each column over A, pair by pair of the interleaved repeats."""
    found = [metric for metric in comparison.metrics if metric.name in _RATIOS and any(metric.ratios[1:])]
    series = [_series(labels, column, [metric.ratios[column] for metric in found]) for column in range(1, len(labels))]
    line = Series("A", np.zeros(1), np.ones(1), "horizontal_line") if found else None
    return Chart(
        name="comparison_ratios",
        title="Relative to A",
        badge="derived",
        definition="Each number over A's of the same round, median and interval; 1 is as A, less is better.",
        y_label="ratio to A",
        series=(*series, *((line,) if line else ())),
        categories=tuple(METRICS[metric.name].label for metric in found),
        notes=(*_notes(comparison), *_noise(found, labels)),
        empty=_EMPTY,
    )


def comparison_table(comparison: Comparison, labels: Sequence[str]) -> Chart:
    """Every metric as a row: median and interval of each column, ratio to A, and whether the difference is noise."""
    names = [("", " low", " high", *((" / A", " is noise") if column else ())) for column in range(len(labels))]
    headings = tuple(f"{label}{part}" for label, parts in zip(labels, names) for part in parts)
    return Chart(
        name="comparison_table",
        title="Comparison",
        badge="derived",
        definition="Medians over the repeats. A difference whose interval holds 1 is noise.",
        notes=_notes(comparison),
        empty=_EMPTY,
        listing=Table(("metric", "unit", "badge", *headings), tuple(_row(metric, labels) for metric in comparison.metrics)),
    )


COMPARISON_CHARTS = {
    build.__name__: build
    for build in (comparison_ttft, comparison_tpot, comparison_memory, comparison_ratios, comparison_table)
}


def _bars(comparison: Comparison, labels: Sequence[str], name: str, title: str, metrics: Sequence[str], y_label: str) -> Chart:
    found = [metric for metric in comparison.metrics if metric.name in metrics and any(metric.columns)]
    known = [METRICS[metric.name] for metric in found]
    return Chart(
        name=name,
        title=title,
        badge=_badge(known),
        definition="; ".join(f"{metric.label}: {metric.definition}" for metric in known),
        y_label=y_label,
        series=tuple(_series(labels, column, [metric.columns[column] for metric in found]) for column in range(len(labels))),
        categories=tuple(metric.label for metric in known),
        notes=(*_notes(comparison), *_noise(found, labels)),
        empty=_EMPTY,
    )


def _badge(known: Sequence[Metric]) -> Badge:
    return "measured" if all(metric.badge == "measured" for metric in known) else "derived"


def _series(labels: Sequence[str], column: int, spreads: Sequence[Spread | None]) -> Series:
    edges = [(np.nan,) * 3 if one is None else (one.median, _or_nan(one.low), _or_nan(one.high)) for one in spreads]
    y, low, high = np.array(edges, float).reshape(-1, 3).T
    return Series(labels[column], np.arange(y.size), y, "bar", column_of(labels[column], column), low=low, high=high)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _row(metric: MetricComparison, labels: Sequence[str]) -> tuple[Cell, ...]:
    known = METRICS[metric.name]
    cells: list[Cell] = [known.label, known.unit, known.badge]
    for column in range(len(labels)):
        one, ratio, noise = metric.columns[column], metric.ratios[column], metric.noise[column]
        cells += [None, None, None] if one is None else [one.median, one.low, one.high]
        if column:
            cells += [None if ratio is None else ratio.median, None if noise is None else "yes" if noise else "no"]
    return tuple(cells)


def _notes(comparison: Comparison) -> tuple[str, ...]:
    return (comparison.interval, *(("timed while capturing",) if comparison.captured else ()))


def _noise(found: Sequence[MetricComparison], labels: Sequence[str]) -> tuple[str, ...]:
    """Which differences from A are inside the spread."""
    alike = [
        f"{METRICS[metric.name].label} of {labels[column]}"
        for metric in found
        for column in range(1, len(labels))
        if metric.noise[column]
    ]
    return (f"no difference from A beyond noise: {', '.join(alike)}",) if alike else ()
