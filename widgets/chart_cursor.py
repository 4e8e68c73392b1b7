"""Which point or cell of a chart is meant, by pointer or by keyboard, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PySide6.QtCore import QPointF

from core.charts.chart import Chart, Heatmap, Series
from widgets.chart_axes import visible
from widgets.chart_layout import Layout
from widgets.chart_marks import bar_rects, points_of
from widgets.quantity import spoken, unit_of

Move = Literal["left", "right", "up", "down", "home", "end"]
REACH = 48.0  # pixels from the pointer within which a point answers


@dataclass(frozen=True)
class Place:
    """The point `index` of series `row`, or the cell in row `row` and column `index` of a heatmap."""

    row: int
    index: int


def first_place(chart: Chart) -> Place | None:
    """Where the keyboard starts: the first point or cell."""
    if chart.heatmap is not None:
        return Place(0, 0) if chart.heatmap.values.size else None
    return next((Place(row, 0) for row, series in enumerate(chart.series) if series.y.size), None)


def moved(chart: Chart, place: Place, move: Move) -> Place:
    """The neighbouring place; the same one at the edge. Up and down change the row or the series."""
    step = {"up": -1, "down": 1}.get(move, 0)
    row = min(max(place.row + step, 0), _rows(chart) - 1)
    last = max(0, _length(chart, row) - 1)
    ends = {"left": place.index - 1, "right": place.index + 1, "home": 0, "end": last}
    return Place(row, min(max(ends.get(move, place.index), 0), last))


def held(chart: Chart, place: Place | None) -> Place | None:
    """The place if the chart still has it."""
    kept = place is not None and place.row < _rows(chart) and place.index < _length(chart, place.row)
    return place if kept else None


def _rows(chart: Chart) -> int:
    return len(chart.series) if chart.heatmap is None else len(chart.heatmap.values)


def _length(chart: Chart, row: int) -> int:
    return len(chart.series[row].y) if chart.heatmap is None else chart.heatmap.values.shape[1]


def nearest(chart: Chart, layout: Layout, at: QPointF) -> Place | None:
    """The cell under the pointer, the bar around it, or the point nearest to it."""
    if not layout.plot.adjusted(-4, -4, 4, 4).contains(at):
        return None
    if chart.heatmap is not None:
        row, column = round(layout.y.value(at.y())), round(layout.x.value(at.x()))
        return held(chart, Place(max(0, row), max(0, column)))
    for row, series in enumerate(chart.series):
        if series.kind == "bar":
            index = next((n for n, rect in enumerate(bar_rects(chart, series, layout)) if rect.contains(at)), None)
            if index is not None:
                return Place(row, index)
    return _nearest_point(chart, layout, at)


def _nearest_point(chart: Chart, layout: Layout, at: QPointF) -> Place | None:
    best, found = REACH, None
    for row, series in enumerate(chart.series):
        if series.kind not in ("bar", "horizontal_line") and series.y.size:
            away = np.hypot(*(points_of(series, layout.x, layout.y) - (at.x(), at.y())).T)
            index = int(np.nanargmin(away)) if np.isfinite(away).any() else 0
            if away[index] < best:
                best, found = float(away[index]), Place(row, index)
    return found


def position(chart: Chart, layout: Layout, place: Place) -> QPointF:
    """Device position of the middle of a cell, the top of a bar, or a point (on the axis where there is no number)."""
    if chart.heatmap is not None:
        return QPointF(layout.x.at(place.index), layout.y.at(place.row))
    series = chart.series[place.row]
    if series.kind == "bar":
        rect = bar_rects(chart, series, layout)[place.index]
        return QPointF(rect.center().x(), rect.top()) if not rect.isNull() else layout.plot.center()
    x, y = points_of(series, layout.x, layout.y)[place.index].tolist()
    left = layout.plot.center().x() if series.kind == "horizontal_line" else x
    return QPointF(left, y if np.isfinite(y) else layout.plot.bottom())


def describe(chart: Chart, place: Place) -> str:
    """What stands there, in words: `A: token 12, 10.4 ms`."""
    if chart.heatmap is not None:
        return _cell_text(chart, chart.heatmap, place)
    series = chart.series[place.row]
    value = spoken(float(series.y[place.index]), unit_of(chart.y_label))
    value += _interval(chart, series, place.index)
    if series.kind == "horizontal_line":
        return f"{series.label}: {value}"
    return f"{series.label}: {_x_text(chart, float(series.x[place.index]))}, {value}"


def _cell_text(chart: Chart, heatmap: Heatmap, place: Place) -> str:
    row, column = visible(heatmap.row_labels[place.row]), visible(heatmap.column_labels[place.index])
    value = float(heatmap.values[place.row, place.index])
    masked = " (masked)" if heatmap.overlay is not None and heatmap.overlay[place.row, place.index] else ""
    number = spoken(value, heatmap.unit) if not np.isnan(value) else "no value"
    return f"{chart.y_label} {row} · {chart.x_label} {column}: {number}{masked}".strip()


def _x_text(chart: Chart, x: float) -> str:
    if chart.categories:
        return chart.categories[round(x)] if 0 <= round(x) < len(chart.categories) else ""
    unit = unit_of(chart.x_label)
    return spoken(x, unit) if unit else f"{chart.x_label} {spoken(x)}"


def _interval(chart: Chart, series: Series, index: int) -> str:
    if series.low is None or series.high is None:
        return ""
    unit = unit_of(chart.y_label)
    return f" ({spoken(float(series.low[index]), unit)} to {spoken(float(series.high[index]), unit)})"
