"""The ranges, ticks and mapping to the device of a chart's two axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from core.charts.chart import Chart, Series
from widgets.quantity import relabelled, scale_for, tick_labels, ticks, unit_of

OFF_SCALE = 4.0  # a reference line this many times over all data is named at the edge, not drawn to scale


@dataclass(frozen=True)
class Axis:
    """Values low … high lie on device positions start … end. ticks are values; labels their texts, in `title`'s unit."""

    low: float
    high: float
    title: str = ""
    ticks: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    start: float = 0.0
    end: float = 1.0

    def at(self, value: Any) -> Any:
        """Device position of a value, or of each in an array."""
        return self.start + (value - self.low) * ((self.end - self.start) / (self.high - self.low))

    def value(self, position: float) -> float:
        return self.low + (position - self.start) * ((self.high - self.low) / (self.end - self.start))

    def between(self, start: float, end: float) -> Axis:
        return replace(self, start=start, end=end)


@dataclass(frozen=True)
class View:
    """What part of the data is shown: the whole where a chart is not zoomed."""

    left: float
    right: float
    bottom: float
    top: float


def whole(chart: Chart) -> View:
    """The view that holds all of the chart's data; rows of a heatmap run downwards, from −0.5."""
    if chart.heatmap is not None:
        rows, columns = chart.heatmap.values.shape
        return View(-0.5, columns - 0.5, rows - 0.5, -0.5)
    return View(*_x_range(chart), *_y_range(chart))


def off_scale(chart: Chart) -> tuple[Series, ...]:
    """Reference lines too far above the data to be drawn to scale."""
    most = _highest(s for s in chart.series if s.kind != "horizontal_line")
    lines = (s for s in chart.series if s.kind == "horizontal_line")
    return tuple(s for s in lines if most > 0 and s.y.size and float(np.nanmax(s.y)) > OFF_SCALE * most)


def value_axis(low: float, high: float, title: str, most: int, whole_numbers: bool = False) -> Axis:
    """An axis of numbers with at most `most` ticks, its unit scaled to the numbers shown."""
    scale = scale_for(max(abs(low), abs(high)), unit_of(title))
    positions = ticks(low / scale.divisor, high / scale.divisor, most, whole_numbers)
    values = tuple(position * scale.divisor for position in positions)
    return Axis(low, high, relabelled(title, scale), values, tick_labels(positions))


def decade_axis(low: float, high: float, title: str, most: int) -> Axis:
    """An axis of powers of ten for a logarithmic scale."""
    floor = log_floor(low, high)
    first, last = math.ceil(math.log10(floor) - 1e-9), math.floor(math.log10(high) + 1e-9)
    values = tuple(10.0**power for power in range(first, last + 1, max(1, -(-(last - first + 1) // most))))
    return Axis(low, high, title, values, tuple(f"{value:g}" for value in values))


def log_floor(low: float, high: float) -> float:
    """Where a logarithmic scale begins: six decades below its end when `low` is not positive."""
    return low if low > 0 else high * 1e-6


def name_axis(names: Sequence[str], low: float, high: float, title: str, most: int) -> Axis:
    """An axis of names at 0, 1, …: as many of them as there is room for, evenly picked."""
    first, last = sorted((low, high))
    shown = range(max(0, int(np.ceil(first))), min(len(names) - 1, int(np.floor(last))) + 1)
    stride = _stride(len(shown), max(1, most))
    picked = [index for index in shown if index % stride == 0]
    return Axis(low, high, title, tuple(map(float, picked)), tuple(visible(names[index]) for index in picked))


def tile_axis(names: Sequence[str], cells: int, low: float, high: float, title: str, most: int) -> Axis:
    """An axis of `cells` cells in tiles of equal size, named in their middles."""
    size = cells / len(names)
    axis = name_axis(names, (low + 0.5) / size - 0.5, (high + 0.5) / size - 0.5, title, most)
    return replace(axis, low=low, high=high, ticks=tuple((tick + 0.5) * size - 0.5 for tick in axis.ticks))


def _stride(count: int, most: int) -> int:
    return next(n for n in _STRIDES if -(-count // n) <= most)


_STRIDES: tuple[int, ...] = tuple(n * int(10**power) for power in range(9) for n in (1, 2, 5))


def _x_range(chart: Chart) -> tuple[float, float]:
    if chart.categories:
        return -0.5, len(chart.categories) - 0.5
    found = [s.x[np.isfinite(s.x)] for s in chart.series if s.kind != "horizontal_line"]
    points = np.concatenate(found) if found else np.zeros(0)
    if not points.size:
        return 0.0, 1.0
    low, high = float(points.min()), float(points.max())
    pad = bar_step(chart) / 2 if any(s.kind == "bar" for s in chart.series) else 0.02 * (high - low)
    return (low - pad, high + pad) if high > low else (low - 0.5, high + 0.5)


def bar_step(chart: Chart) -> float:
    """Distance between neighbouring bars: 1 for categories, else the smallest gap in x."""
    if chart.categories:
        return 1.0
    edges = np.unique(np.concatenate([s.x for s in chart.series if s.kind == "bar"] or [np.zeros(1)]))
    return float(np.diff(edges).min()) if edges.size > 1 else 1.0


def _y_range(chart: Chart) -> tuple[float, float]:
    hidden = {id(series) for series in off_scale(chart)}
    shown = [series for series in chart.series if id(series) not in hidden]
    high, low = _highest(shown), -_highest(_negated(shown))
    if not (np.isfinite(low) and np.isfinite(high)):
        return 0.0, 1.0
    floor = 0.0 if low >= 0 else low - 0.06 * (max(high, 0) - low)
    span = max(high, 0.0) - floor
    headroom = 0.16 if hidden else 0.08
    return (floor, max(high, 0.0) + headroom * span) if span > 0 else (0.0, 1.0)


def _highest(series: Any) -> float:
    """The largest number in y, high and base over all series; −inf when there is none."""
    arrays = [array for s in series for array in (s.y if s.base is None else s.y + s.base, s.high, s.base) if array is not None]
    found = [float(np.nanmax(array)) for array in arrays if np.isfinite(array).any()]
    return max(found, default=-np.inf)


def _negated(series: Sequence[Series]) -> list[Series]:
    def turned(array: np.ndarray | None) -> np.ndarray | None:
        return None if array is None else -array

    return [replace(s, y=-s.y, high=turned(s.low), base=turned(s.base)) for s in series]


def visible(text: str) -> str:
    """Text of a token with its white space shown."""
    return text.replace("\n", "⏎").replace("\t", "⇥").replace("\r", "␍")
