"""Lines, steps, points, bars and intervals of a chart's series."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PySide6.QtCore import QLineF, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QPaintEngine, QPainter, QPen, QPolygonF

from core.charts.chart import Chart, Series
from widgets.chart_axes import Axis, bar_step, off_scale
from widgets.chart_layout import Layout
from widgets.chart_look import Look

FEW = 24  # markers on a line, evenly picked where it has more points
PIECE = 8  # points
BAR_SHARE = 0.8  # of the distance between bars
MOST_BAR = 72.0  # pixels; wider bars say nothing more


def draw_letters(painter: QPainter, chart: Chart, layout: Layout, look: Look) -> None:
    """The letter of each configuration over its bars, where several stand side by side."""
    bars = [series for series in chart.series if series.kind == "bar"]
    if not chart.categories or len(bar_columns(chart)) < 2 or len({series.label for series in bars}) == len(bars):
        return  # where every label stands for one configuration, the legend tells them apart
    painter.setPen(look.muted)
    painter.setFont(look.small)
    for column in bar_columns(chart):
        stack = [bar_rects(chart, series, layout) for series in bars if series.column == column]
        highest: dict[int, QRectF] = {}
        for rect in (rect for rects in stack for rect in rects if not rect.isNull()):
            place = round(rect.center().x())
            highest[place] = min(highest.get(place, rect), rect, key=lambda one: one.top())
        for rect in highest.values():
            box = QRectF(rect.center().x() - 20, rect.top() - 15, 40, 13)
            painter.drawText(box, Qt.AlignmentFlag.AlignCenter, look.column(column).letter)


def draw_series(painter: QPainter, chart: Chart, layout: Layout, look: Look) -> None:
    """Draw every series: bars first, then lines and points, then reference lines."""
    hidden = {id(series) for series in off_scale(chart)}
    order = {"bar": 0, "step": 1, "line": 1, "scatter": 2, "horizontal_line": 3}
    for series in sorted(chart.series, key=lambda series: order[series.kind]):
        if id(series) not in hidden:
            _draw(painter, chart, series, layout, look)


def _draw(painter: QPainter, chart: Chart, series: Series, layout: Layout, look: Look) -> None:
    if series.kind == "horizontal_line":
        _draw_level(painter, series, layout, look)
    elif series.kind == "bar":
        for rect in bar_rects(chart, series, layout):
            _fill_bar(painter, rect, look.colour(series), series.column)
        _draw_intervals(painter, chart, series, layout, look)
    else:
        _draw_intervals(painter, chart, series, layout, look)
        _draw_line(painter, series, layout, look)


def points_of(series: Series, x: Axis, y: Axis) -> np.ndarray:
    """Device positions [n, 2] of the points; rows of NaN where there is no number."""
    return np.column_stack([x.at(series.x.astype(float)), y.at(series.y.astype(float))])


def _draw_line(painter: QPainter, series: Series, layout: Layout, look: Look) -> None:
    points = points_of(series, layout.x, layout.y)
    colour, style = look.colour(series), look.column(series.column)
    if series.kind != "scatter":
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for run in _runs(_stairs(points) if series.kind == "step" else points):
            _draw_run(painter, _thinned(run), look.pen(series))
    shown = points[np.isfinite(points).all(axis=1)]
    if series.kind != "scatter":
        shown = shown[:: max(1, -(-len(shown) // FEW))]
    draw_markers(painter, shown, colour, style.marker, 3.5 if series.kind == "scatter" else 2.75)


def _draw_run(painter: QPainter, points: np.ndarray, pen: QPen) -> None:
    """One unbroken line. Screens get it in short overlapping pieces: Qt strokes a long wide path in quadratic time."""
    piece = PIECE if painter.paintEngine().type() == QPaintEngine.Type.Raster else len(points)
    walked = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    corners = [QPointF(x, y) for x, y in points.tolist()]
    for start in range(0, len(points) - 1, max(1, piece)):
        pen.setDashOffset(walked[start] / pen.widthF())
        painter.setPen(pen)
        painter.drawPolyline(QPolygonF(corners[start : start + piece + 2]))


def polygon(points: np.ndarray) -> QPolygonF:
    """The polygon through [n, 2] device positions."""
    return QPolygonF([QPointF(x, y) for x, y in points.tolist()])


def _runs(points: np.ndarray) -> list[np.ndarray]:
    """The stretches between missing numbers."""
    gaps = np.flatnonzero(~np.isfinite(points).all(axis=1))
    pieces = np.split(points, gaps)
    return [piece[np.isfinite(piece).all(axis=1)] for piece in pieces if len(piece)]


def _stairs(points: np.ndarray) -> np.ndarray:
    """Each level held until the next point."""
    if len(points) < 2:
        return points
    xs, ys = np.repeat(points[:, 0], 2)[1:], np.repeat(points[:, 1], 2)[:-1]
    return np.column_stack([xs, ys])


def _thinned(points: np.ndarray, most: int = 4000) -> np.ndarray:
    """Long lines keep the lowest and the highest point of each stretch, in order."""
    if len(points) <= most:
        return points
    starts = np.linspace(0, len(points), most // 2, endpoint=False).astype(int)
    pieces = np.split(points[:, 1], starts[1:])
    kept = {int(start + at) for start, piece in zip(starts, pieces) for at in (piece.argmin(), piece.argmax())}
    return points[sorted(kept | {0, len(points) - 1})]


def draw_markers(painter: QPainter, points: np.ndarray, colour: QColor, marker: str, radius: float) -> None:
    """A filled marker of the column's shape at each of [n, 2] device positions."""
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(colour)
    outline = MARKERS[marker] * radius
    for point in points:
        if marker == "o":
            painter.drawEllipse(QPointF(*point), radius, radius)
        else:
            painter.drawPolygon(polygon(point + outline))


MARKERS = {
    "o": np.zeros((1, 2)),
    "s": np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * 0.9,
    "t": np.array([(0, -1.2), (1.1, 0.9), (-1.1, 0.9)]),
    "d": np.array([(0, -1.4), (1.1, 0), (0, 1.4), (-1.1, 0)]),
}


def bar_columns(chart: Chart) -> tuple[int, ...]:
    """The configurations that have bars, each with its own place beside the others."""
    return tuple(sorted({series.column for series in chart.series if series.kind == "bar"}))


def bar_centres(chart: Chart, series: Series, x: Axis) -> tuple[np.ndarray, float]:
    """Centres [n] of a series' bars in x, and the width of one. Bars of configurations stand beside each other."""
    columns, step = bar_columns(chart), bar_step(chart)
    widest = MOST_BAR * abs((x.high - x.low) / (x.end - x.start)) if chart.categories else step
    width = min(widest, step * (BAR_SHARE if chart.categories else 1.0) / len(columns))
    offset = (columns.index(series.column) - (len(columns) - 1) / 2) * width
    return series.x.astype(float) + offset, width


def bar_rects(chart: Chart, series: Series, layout: Layout) -> list[QRectF]:
    """Device rectangles of a series' bars, empty where there is no number."""
    centres, width = bar_centres(chart, series, layout.x)
    base = np.zeros(len(series.y)) if series.base is None else series.base
    bottom, top = layout.y.at(base), layout.y.at(base + series.y)
    edges = np.column_stack([layout.x.at(centres - width / 2), layout.x.at(centres + width / 2), bottom, top])
    return [_bar(*edge) if np.isfinite(edge).all() else QRectF() for edge in edges.tolist()]


def _bar(left: float, right: float, base: float, top: float) -> QRectF:
    gap = min(1.0, (right - left) * 0.1)
    return QRectF(QPointF(left + gap, min(base, top)), QPointF(right - gap, max(base, top)))


def _fill_bar(painter: QPainter, rect: QRectF, colour: QColor, column: int) -> None:
    """The first configuration's bars are solid; the others are lighter, with a solid edge in their line style."""
    if rect.isEmpty():
        return
    painter.setPen(Qt.PenStyle.NoPen)
    painter.fillRect(rect, faded(colour, column))
    if column:
        painter.setPen(QPen(colour, 1.0))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(rect.adjusted(0.5, 0.5, -0.5, -0.5))


def faded(colour: QColor, column: int) -> QColor:
    """The fill of a column's bars."""
    return colour if column == 0 else QColor(colour.red(), colour.green(), colour.blue(), (150, 100, 60)[(column - 1) % 3])


def _draw_intervals(painter: QPainter, chart: Chart, series: Series, layout: Layout, look: Look) -> None:
    if series.low is None or series.high is None:
        return
    centres = bar_centres(chart, series, layout.x)[0] if series.kind == "bar" else series.x.astype(float)
    ends = np.column_stack([layout.x.at(centres), layout.y.at(series.low), layout.y.at(series.high)])
    painter.setPen(QPen(look.text if series.kind == "bar" else look.colour(series), 1.25))
    lines = [line for x, low, high in ends[np.isfinite(ends).all(axis=1)].tolist() for line in _whisker(x, low, high)]
    painter.drawLines(lines)


def _whisker(x: float, low: float, high: float) -> Sequence[QLineF]:
    return (QLineF(x, low, x, high), QLineF(x - 4, low, x + 4, low), QLineF(x - 4, high, x + 4, high))


def _draw_level(painter: QPainter, series: Series, layout: Layout, look: Look) -> None:
    painter.setPen(look.pen(series, 1.25))
    for level in layout.y.at(series.y[np.isfinite(series.y)]).tolist():
        painter.drawLine(QPointF(layout.plot.left(), level), QPointF(layout.plot.right(), level))
