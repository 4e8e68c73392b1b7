"""Where the parts of a chart stand: header, legend, plot, axes, colour bar and notes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QFont, QFontMetricsF

from core.charts.chart import Chart, Series, has_data
from widgets.chart_axes import Axis, View, decade_axis, name_axis, off_scale, tile_axis, value_axis, whole
from widgets.chart_look import Look
from widgets.quantity import spoken, unit_of
from widgets.theme import GRID

SWATCH = 24.0  # width of a legend sample
COLOUR_BAR = 12.0
TALL = 440.0  # one as high as this has room for long notes
ROOMY = 240.0  # a chart lower than this leaves its definition and notes to the tool tip


@dataclass(frozen=True)
class Line:
    """One line of text, its baseline starting at `at`."""

    text: str
    at: QPointF
    font: QFont


@dataclass(frozen=True)
class Entry:
    """One series in the legend."""

    series: Series
    sample: QRectF
    text: Line


@dataclass(frozen=True)
class Layout:
    """Positions of a chart's parts within `area`; x, y and bar lie on the edges of `plot`. bar: None without a heatmap."""

    area: QRectF
    title: Line
    badge: QRectF
    header: tuple[Line, ...]
    legend: tuple[Entry, ...]
    plot: QRectF
    x: Axis
    y: Axis
    bar: Axis | None
    notes: tuple[Line, ...]
    edge_note: str


def lay_out(chart: Chart, area: QRectF, look: Look, view: View | None = None, reserve: float = 0.0) -> Layout:
    """The layout of `chart` in `area`. reserve: width kept free at the right of the title."""
    inner = area.adjusted(GRID, GRID, -GRID, -GRID)
    roomy = area.height() >= ROOMY
    title, badge = _title(chart, inner, look, reserve)
    top = inner.top() + look.line(look.title) + 2
    header = _text(chart.definition, inner, top, look, most=3 if inner.height() >= TALL else 2) if roomy else ()
    top += len(header) * look.line(look.small) + 4
    legend = _legend(chart, inner, top, look)
    top = (legend[-1].sample.bottom() if legend else top) + GRID
    notes = _notes(chart, inner, look) if roomy else ()
    bottom = inner.bottom() - len(notes) * look.line(look.small)
    body = QRectF(inner.left(), top, inner.width(), max(24.0, bottom - top))
    plot, x, y, bar = _plot(chart, body, look, view or whole(chart))
    return Layout(area, title, badge, header, legend, plot, x, y, bar, notes, _edge_note(chart))


@lru_cache(maxsize=512)  # live charts are laid out many times a second, mostly with the same texts
def wrap(text: str, width: float, font: QFont, most: int) -> tuple[str, ...]:
    """The text in at most `most` lines of this width, the last one elided when it does not fit."""
    metrics = QFontMetricsF(font)
    lines, left = [""], width
    for word in text.split():
        wide = metrics.horizontalAdvance(f"{word} ")
        if left < wide - 3 and len(lines) < most and lines[-1]:
            lines, left = [*lines, ""], width
        lines[-1] += f" {word}" if lines[-1] else word
        left -= wide
    fit = [metrics.elidedText(line, Qt.TextElideMode.ElideRight, width) for line in lines if line]
    return tuple(fit)


def _title(chart: Chart, inner: QRectF, look: Look, reserve: float) -> tuple[Line, QRectF]:
    metrics, small = QFontMetricsF(look.title), QFontMetricsF(look.small)
    chip = small.horizontalAdvance(chart.badge) + 2 * GRID
    room = inner.width() - chip - GRID - reserve
    text = metrics.elidedText(chart.title, Qt.TextElideMode.ElideRight, room)
    height = look.line(look.title)
    baseline = inner.top() + (height + metrics.ascent() - metrics.descent()) / 2
    left = inner.left() + metrics.horizontalAdvance(text) + GRID
    tall = small.height() + 2
    return Line(text, QPointF(inner.left(), baseline), look.title), QRectF(left, inner.top() + (height - tall) / 2, chip, tall)


def _text(text: str, inner: QRectF, top: float, look: Look, most: int) -> tuple[Line, ...]:
    lines = wrap(text, inner.width(), look.small, most)
    step, ascent = look.line(look.small), QFontMetricsF(look.small).ascent()
    return tuple(Line(line, QPointF(inner.left(), top + n * step + ascent), look.small) for n, line in enumerate(lines))


def _notes(chart: Chart, inner: QRectF, look: Look) -> tuple[Line, ...]:
    text, most = " · ".join(chart.notes), 4 if inner.height() >= TALL else 2
    count = len(wrap(text, inner.width(), look.small, most))
    return _text(text, inner, inner.bottom() - count * look.line(look.small), look, most)


def legend_series(chart: Chart) -> tuple[Series, ...]:
    """The series that the legend names: one of each label, and none where there is only one."""
    by_label: dict[str, Series] = {}
    for series in chart.series:
        by_label.setdefault(series.label, series)
    return tuple(by_label.values()) if len(by_label) > 1 and has_data(chart) else ()


def _legend(chart: Chart, inner: QRectF, top: float, look: Look) -> tuple[Entry, ...]:
    metrics, height = QFontMetricsF(look.small), look.line(look.small) + 2
    entries: list[Entry] = []
    left = inner.left()
    for series in legend_series(chart):
        sample = 10.0 if series.kind == "bar" else SWATCH
        text = metrics.elidedText(series.label, Qt.TextElideMode.ElideRight, inner.width() - sample - 6)
        width = sample + 6 + metrics.horizontalAdvance(text)
        if left > inner.left() and left + width > inner.right():
            left, top = inner.left(), top + height
        baseline = top + (height + metrics.ascent() - metrics.descent()) / 2
        line = Line(text, QPointF(left + sample + 6, baseline), look.small)
        entries.append(Entry(series, QRectF(left, top, sample, height), line))
        left += width + 2 * GRID
    return tuple(entries)


def _plot(chart: Chart, body: QRectF, look: Look, view: View) -> tuple[QRectF, Axis, Axis, Axis | None]:
    small = QFontMetricsF(look.small)
    step = look.line(look.small)
    below = step + 8 + (step if chart.x_label else 0)
    height = max(16.0, body.height() - below)
    y = _y_axis(chart, view, int(height / (2.6 * step)))
    bar = _bar_axis(chart, int(height / (2.6 * step)))
    left = body.left() + _widest(y, small, body.width() * 0.3) + 8 + (step if y.title else 0)
    right = body.right() - (0 if bar is None else COLOUR_BAR + 8 + _widest(bar, small, 80) + (step if bar.title else 0) + GRID)
    plot = QRectF(left, body.top(), max(24.0, right - left), height)
    x = _x_axis(chart, view, plot.width(), small).between(plot.left(), plot.right())
    vertical = (plot.bottom(), plot.top())
    return plot, x, y.between(*vertical), None if bar is None else bar.between(*vertical)


def _widest(axis: Axis, metrics: QFontMetricsF, most: float) -> float:
    return min(most, max((metrics.horizontalAdvance(label) for label in axis.labels), default=0.0))


def _y_axis(chart: Chart, view: View, most: int) -> Axis:
    heatmap = chart.heatmap
    if heatmap is not None and heatmap.tiles is not None:
        return tile_axis(heatmap.tiles[0], len(heatmap.values), view.bottom, view.top, chart.y_label, max(2, most * 2))
    if heatmap is not None:
        return name_axis(heatmap.row_labels, view.bottom, view.top, chart.y_label, max(2, most * 2))
    return value_axis(view.bottom, view.top, chart.y_label, max(2, most))


def _x_axis(chart: Chart, view: View, width: float, metrics: QFontMetricsF) -> Axis:
    heatmap = chart.heatmap
    if heatmap is not None and heatmap.tiles is not None:
        cells = heatmap.values.shape[1]
        return tile_axis(heatmap.tiles[1], cells, view.left, view.right, chart.x_label, max(1, int(width / (3 * GRID))))
    names = chart.categories if heatmap is None else heatmap.column_labels
    if not names:
        whole_numbers = all(bool((s.x == s.x.round()).all()) for s in chart.series)
        return value_axis(view.left, view.right, chart.x_label, max(2, int(width / 64)), whole_numbers)
    if heatmap is None:
        return name_axis(names, view.left, view.right, chart.x_label, len(names))
    widest = max(metrics.horizontalAdvance(name) for name in names[:: max(1, len(names) // 64)])
    return name_axis(names, view.left, view.right, chart.x_label, max(1, int(width / (widest + GRID))))


def _bar_axis(chart: Chart, most: int) -> Axis | None:
    heatmap = chart.heatmap
    if heatmap is None:
        return None
    high = heatmap.high if heatmap.high > heatmap.low else heatmap.low + 1.0
    if heatmap.scale == "log":
        return decade_axis(heatmap.low, high, heatmap.unit, max(2, most))
    return value_axis(heatmap.low, high, heatmap.unit, max(2, most))


def _edge_note(chart: Chart) -> str:
    unit = unit_of(chart.y_label)
    return "   ".join(f"↑ {series.label} {spoken(float(series.y[0]), unit)}" for series in off_scale(chart))
