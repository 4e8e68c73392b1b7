"""Paints a chart with any QPainter: the one drawing behind the window, PNG, SVG and PDF."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QFontMetricsF, QPainter, QPen

from core.charts.chart import Chart, has_data
from widgets.chart_axes import Axis
from widgets.chart_heatmap import draw_cells, enlarged, fraction, image_of
from widgets.chart_layout import COLOUR_BAR, Entry, Layout, Line, wrap
from widgets.chart_listing import draw_listing
from widgets.chart_look import Look, mixed
from widgets.chart_marks import bar_columns, draw_letters, draw_markers, draw_series, faded
from widgets.theme import GRID


def paint(painter: QPainter, chart: Chart, layout: Layout, look: Look, vector: bool = False) -> None:
    """Paint all of `chart`. vector: the device is SVG or PDF, scaled by whoever shows it.

    Vector devices do not clip; they are given the whole view, whose marks all lie within the plot.
    """
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.fillRect(layout.area, look.ground)
    _header(painter, chart, layout, look)
    if not has_data(chart):
        _empty(painter, chart, layout, look)
        return
    if chart.listing is not None:
        draw_listing(painter, chart.listing, listing_area(layout), look)
        _texts(painter, layout.notes, look)
        return
    pooled = _body(painter, chart, layout, look, vector)
    for entry in layout.legend:
        _entry(painter, chart, entry, look)
    _texts(painter, layout.notes, look)
    corner = f"a pixel shows the largest of {pooled} cells a side" if pooled > 1 else layout.edge_note
    _edge_note(painter, corner, layout, look)


def listing_area(layout: Layout) -> QRectF:
    """Where the rows of a table of text stand."""
    bottom = layout.notes[0].at.y() - 2 * GRID if layout.notes else layout.area.bottom() - GRID
    return QRectF(QPointF(layout.title.at.x(), layout.plot.top()), QPointF(layout.area.right() - GRID, bottom))


def _header(painter: QPainter, chart: Chart, layout: Layout, look: Look) -> None:
    _text(painter, layout.title, look, plain=True)
    colour = look.badges[chart.badge]
    painter.setPen(QPen(colour, 1.0))
    painter.setBrush(mixed(look.ground, colour, 0.12))
    radius = layout.badge.height() / 2
    painter.drawRoundedRect(layout.badge, radius, radius)
    centred(painter, chart.badge, layout.badge, look, mixed(colour, look.text, 0.25))
    _texts(painter, layout.header, look)


def _body(painter: QPainter, chart: Chart, layout: Layout, look: Look, vector: bool) -> int:
    """Axes and data; returns how many heatmap cells share a pixel along a side."""
    pooled = 1
    if chart.heatmap is None:
        _grid(painter, layout, look)
    painter.save()
    if not vector:
        painter.setClipRect(layout.plot.adjusted(-3, -3, 3, 3) if chart.heatmap is None else layout.plot)
    if chart.heatmap is None:
        draw_series(painter, chart, layout, look)
    else:
        pooled = draw_cells(painter, chart.heatmap, look.palette, layout.x, layout.y, vector)
    painter.restore()
    _frame(painter, layout, look)
    draw_letters(painter, chart, layout, look)
    _x_labels(painter, chart, layout, look)
    _y_labels(painter, layout.y, layout.plot, look)
    if layout.bar is not None:
        _colour_bar(painter, chart, layout, layout.bar, look, vector)
    return pooled


def _grid(painter: QPainter, layout: Layout, look: Look) -> None:
    painter.setPen(QPen(look.grid, 1.0))
    for tick in layout.y.ticks:
        at = _crisp(layout.y.at(tick))
        painter.drawLine(QPointF(layout.plot.left(), at), QPointF(layout.plot.right(), at))


def _frame(painter: QPainter, layout: Layout, look: Look) -> None:
    painter.setPen(QPen(look.frame, 1.0))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    plot = layout.plot
    left, bottom = _crisp(plot.left()), _crisp(plot.bottom())
    painter.drawLine(QPointF(left, plot.top()), QPointF(left, bottom))
    painter.drawLine(QPointF(left, bottom), QPointF(plot.right(), bottom))


def _crisp(position: float) -> float:
    """The middle of the pixel, so that a one-pixel line is one pixel wide."""
    return float(np.floor(position)) + 0.5


def _x_labels(painter: QPainter, chart: Chart, layout: Layout, look: Look) -> None:
    metrics, axis, plot = QFontMetricsF(look.small), layout.x, layout.plot
    baseline = plot.bottom() + 5 + metrics.ascent()
    room = abs(axis.at(1.0) - axis.at(0.0)) - 6 if chart.categories else plot.width()
    painter.setPen(QPen(look.muted))
    painter.setFont(look.small)
    for tick, label in zip(axis.ticks, axis.labels):
        shown = metrics.elidedText(label, Qt.TextElideMode.ElideRight, room)
        width = metrics.horizontalAdvance(shown)
        left = min(max(axis.at(tick) - width / 2, plot.left() - width / 2), layout.area.right() - width - 2)
        painter.drawText(QPointF(left, baseline), shown)
    width = metrics.horizontalAdvance(axis.title)
    painter.drawText(QPointF(plot.center().x() - width / 2, baseline + look.line(look.small) + 2), axis.title)


def _y_labels(painter: QPainter, axis: Axis, plot: QRectF, look: Look) -> None:
    metrics = QFontMetricsF(look.small)
    most = plot.left() - 10
    painter.setPen(QPen(look.muted))
    painter.setFont(look.small)
    widest = 0.0
    for tick, label in zip(axis.ticks, axis.labels):
        shown = metrics.elidedText(label, Qt.TextElideMode.ElideRight, most)
        width = metrics.horizontalAdvance(shown)
        widest = max(widest, width)
        baseline = axis.at(tick) + (metrics.ascent() - metrics.descent()) / 2
        painter.drawText(QPointF(plot.left() - 6 - width, baseline), shown)
    upright(painter, axis.title, QPointF(plot.left() - 10 - widest - metrics.descent(), plot.center().y()), plot.height(), look)


def upright(painter: QPainter, text: str, foot: QPointF, room: float, look: Look) -> None:
    """Text that reads upwards, centred on `foot`, which lies on its baseline."""
    metrics = QFontMetricsF(look.small)
    shown = metrics.elidedText(text, Qt.TextElideMode.ElideRight, room)
    painter.save()
    painter.translate(foot)
    painter.rotate(-90)
    painter.drawText(QPointF(-metrics.horizontalAdvance(shown) / 2, 0), shown)
    painter.restore()


def _colour_bar(painter: QPainter, chart: Chart, layout: Layout, bar: Axis, look: Look, vector: bool) -> None:
    assert chart.heatmap is not None
    metrics, plot = QFontMetricsF(look.small), layout.plot
    strip = QRectF(plot.right() + 8, plot.top(), COLOUR_BAR, plot.height())
    image = image_of(look.palette[255::-1][:, None][-256:])
    painter.drawImage(strip, enlarged(image) if vector else image)
    painter.setPen(QPen(look.muted))
    painter.setFont(look.small)
    places = fraction(chart.heatmap, np.array(bar.ticks)) if bar.ticks else np.zeros(0)
    for place, label in zip(places.tolist(), bar.labels):
        centre = strip.bottom() - place * strip.height()
        painter.drawText(QPointF(strip.right() + 4, centre + (metrics.ascent() - metrics.descent()) / 2), label)
    widest = max((metrics.horizontalAdvance(label) for label in bar.labels), default=0.0)
    foot = QPointF(strip.right() + 6 + widest + metrics.ascent(), plot.center().y())
    upright(painter, bar.title, foot, plot.height(), look)


def _entry(painter: QPainter, chart: Chart, entry: Entry, look: Look) -> None:
    series, colour = entry.series, look.colour(entry.series)
    middle = entry.sample.center()
    if series.kind == "bar":
        same = sum(other.label == series.label for other in chart.series) > 1
        column = series.column if not same and len(bar_columns(chart)) > 1 else 0
        painter.setPen(QPen(colour, 1.0) if column else Qt.PenStyle.NoPen)
        painter.setBrush(faded(colour, column))
        painter.drawRect(QRectF(entry.sample.right() - 10, middle.y() - 5, 10, 10))
    else:
        painter.setPen(look.pen(series))
        if series.kind != "scatter":
            painter.drawLine(QPointF(entry.sample.left(), middle.y()), QPointF(entry.sample.right(), middle.y()))
        if series.kind != "horizontal_line":
            draw_markers(painter, np.array([[middle.x(), middle.y()]]), colour, look.column(series.column).marker, 3.0)
    _text(painter, entry.text, look)


def _edge_note(painter: QPainter, text: str, layout: Layout, look: Look) -> None:
    metrics = QFontMetricsF(look.small)
    shown = metrics.elidedText(text, Qt.TextElideMode.ElideRight, layout.plot.width() - 12)
    if not shown:
        return
    width = metrics.horizontalAdvance(shown)
    box = QRectF(layout.plot.right() - width - 10, layout.plot.top() + 2, width + 8, metrics.height() + 2)
    ground = mixed(look.ground, look.frame, 0.35)
    painter.fillRect(box, ground)
    centred(painter, shown, box, look, look.muted)


def _empty(painter: QPainter, chart: Chart, layout: Layout, look: Look) -> None:
    """What will appear here and how to get it, in the middle."""
    room = QRectF(layout.area.left(), layout.plot.top(), layout.area.width(), layout.area.bottom() - layout.plot.top())
    lines = wrap(chart.empty or "Nothing was recorded for this chart.", min(440.0, room.width() - 32), look.small, most=6)
    step = look.line(look.small) + 2
    top = room.center().y() - len(lines) * step / 2
    for number, line in enumerate(lines):
        centred(painter, line, QRectF(room.left(), top + number * step, room.width(), step), look, look.muted)


def centred(painter: QPainter, text: str, box: QRectF, look: Look, colour: object) -> None:
    """One line of small text in the middle of a box."""
    metrics = QFontMetricsF(look.small)
    baseline = box.center().y() + (metrics.ascent() - metrics.descent()) / 2
    painter.setPen(QPen(colour))
    painter.setFont(look.small)
    painter.drawText(QPointF(box.center().x() - metrics.horizontalAdvance(text) / 2, baseline), text)


def _texts(painter: QPainter, lines: tuple[Line, ...], look: Look) -> None:
    for line in lines:
        _text(painter, line, look)


def _text(painter: QPainter, line: Line, look: Look, plain: bool = False) -> None:
    painter.setPen(QPen(look.text if plain else look.muted))
    painter.setFont(line.font)
    painter.drawText(line.at, line.text)
