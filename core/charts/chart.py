"""A chart as data: what the window draws, what an export writes and what its table twin lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Badge = Literal["measured", "derived", "modelled", "unavailable"]


@dataclass(frozen=True)
class Series:
    """Points or bars.

    x: [n] positions, or category indices where the chart has categories. y: [n]; NaN is unavailable.
    column: which configuration (0 = A …) decides line style and marker. key: technique family or phase, decides the colour.
    low, high: [n] interval around y, where known. base: [n] lower edge of stacked bars.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    kind: Literal["line", "step", "scatter", "bar", "horizontal_line"] = "line"
    column: int = 0
    key: str = ""
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    base: np.ndarray | None = None


@dataclass(frozen=True)
class Heatmap:
    """values [rows, columns], row 0 at the top; NaN cells are drawn as empty. overlay: [rows, columns] bool, cells to veil."""

    values: np.ndarray
    row_labels: tuple[str, ...]
    column_labels: tuple[str, ...]
    low: float
    high: float
    unit: str = ""
    overlay: np.ndarray | None = None
    scale: Literal["linear", "sqrt", "log"] = "linear"


@dataclass(frozen=True)
class Chart:
    """One chart. name: as `export --chart` takes it. categories: names of x = 0, 1, … for bars.

    definition: what the numbers mean, printed beside them. empty: what to do to see something, when there is no data.
    """

    name: str
    title: str
    badge: Badge
    definition: str
    x_label: str = ""
    y_label: str = ""
    series: tuple[Series, ...] = ()
    heatmap: Heatmap | None = None
    categories: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    empty: str = ""


@dataclass(frozen=True)
class Table:
    """The same numbers as rows: the twin of a chart for reading, screen readers, CSV and JSON."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | float | int | None, ...], ...]


def table(chart: Chart) -> Table:
    """The table twin: long format, one row a point or cell."""
    if chart.heatmap is not None:
        return _heatmap_table(chart, chart.heatmap)
    names = chart.categories
    rows = tuple(
        (series.label, names[int(x)] if names else float(x), None if np.isnan(y) else float(y))
        for series in chart.series
        for x, y in zip(series.x, series.y, strict=True)
    )
    return Table(("series", chart.x_label or "x", chart.y_label or "y"), rows)


def _heatmap_table(chart: Chart, heatmap: Heatmap) -> Table:
    rows = tuple(
        (row, column, None if np.isnan(value) else float(value))
        for row, line in zip(heatmap.row_labels, heatmap.values, strict=True)
        for column, value in zip(heatmap.column_labels, line, strict=True)
    )
    return Table((chart.y_label or "row", chart.x_label or "column", heatmap.unit or "value"), rows)
