"""A chart as data: what the window draws, what an export writes and what its table twin lists."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.charts.palette import COLUMNS

Cell = str | float | int | None
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
    """values [rows, columns], row 0 at the top; NaN cells are drawn as empty. overlay: [rows, columns] bool, cells to veil.

    tiles: where the cells are small maps of equal size, the names of their rows and columns, which the axes then bear.
    """

    values: np.ndarray
    row_labels: tuple[str, ...]
    column_labels: tuple[str, ...]
    low: float
    high: float
    unit: str = ""
    overlay: np.ndarray | None = None
    scale: Literal["linear", "sqrt", "log"] = "linear"
    tiles: tuple[tuple[str, ...], tuple[str, ...]] | None = None


@dataclass(frozen=True)
class Chart:
    """One chart. name: as `export --chart` takes it. categories: names of x = 0, 1, … for bars.

    definition: what the numbers mean, printed beside them. empty: what to do to see something, when there is no data.
    Units stand in the axis labels, `time (ms)`, and in the heatmap. listing: the rows of a chart that is a table of text.
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
    listing: Table | None = None


@dataclass(frozen=True)
class Table:
    """The same numbers as rows: the twin of a chart for reading, screen readers, CSV and JSON."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def has_data(chart: Chart) -> bool:
    """Whether the chart shows anything; where not, `chart.empty` says what to do."""
    if chart.listing is not None:
        return bool(chart.listing.rows)
    if chart.heatmap is not None:
        return any(bool(np.isfinite(row).any()) for row in chart.heatmap.values)  # mostly the first row tells
    return any(bool(np.isfinite(series.y).any()) for series in chart.series if series.kind != "horizontal_line")


def table(chart: Chart) -> Table:
    """The table twin: long format, one row a point or cell; the interval where there is one."""
    if chart.listing is not None:
        return chart.listing
    if chart.heatmap is not None:
        return _heatmap_table(chart, chart.heatmap)
    labels = [series.label for series in chart.series]
    named = any(labels.count(label) > 1 for label in labels)  # the same series of several configurations
    spread = any(series.low is not None for series in chart.series)
    columns = ("series", *(("configuration",) if named else ()), chart.x_label or "x", chart.y_label or "y")
    rows = (row for series in chart.series for row in _series_rows(chart, series, named, spread))
    return Table((*columns, *(("low", "high") if spread else ())), tuple(rows))


def _series_rows(chart: Chart, series: Series, named: bool, spread: bool) -> Iterator[tuple[Cell, ...]]:
    start: tuple[Cell, ...] = (series.label, COLUMNS[series.column % len(COLUMNS)].letter) if named else (series.label,)
    unknown = np.full(len(series.y), np.nan)
    low, high = (unknown if edge is None else edge for edge in (series.low, series.high))
    for x, *numbers in zip(series.x, series.y, low, high, strict=True):
        names = chart.categories if series.kind != "horizontal_line" else ()
        place: Cell = names[int(x)] if names else _number(x)
        yield (*start, place, *(_number(number) for number in numbers[: 3 if spread else 1]))


def _number(value: float) -> float | int | None:
    if not np.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(value)


def _heatmap_table(chart: Chart, heatmap: Heatmap) -> Table:
    rows = tuple(
        (row, column, _number(value))
        for row, line in zip(heatmap.row_labels, heatmap.values.tolist(), strict=True)
        for column, value in zip(heatmap.column_labels, line, strict=True)
    )
    return Table((chart.y_label or "row", chart.x_label or "column", heatmap.unit or "value"), rows)
