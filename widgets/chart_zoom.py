"""Zooming and panning of a chart's view, never outside the data."""

from __future__ import annotations

from PySide6.QtCore import QPointF

from core.charts.chart import Chart
from widgets.chart_axes import View, whole
from widgets.chart_layout import Layout

CLOSEST = 1 / 4096  # of the whole span


def can_zoom(chart: Chart) -> bool:
    """Bars of a few categories are always shown whole."""
    return not chart.categories


def zoomed(chart: Chart, layout: Layout, at: QPointF, factor: float, both: bool) -> View | None:
    """The view `factor` times closer around a device position: along x, or along both axes. None when whole again."""
    x, y = layout.x, layout.y
    left, right = _closer(x.low, x.high, x.value(at.x()), factor)
    bottom, top = _closer(y.low, y.high, y.value(at.y()), factor) if both else (y.low, y.high)
    return clamped(chart, View(left, right, bottom, top))


def panned(chart: Chart, layout: Layout, by: QPointF) -> View | None:
    """The view moved by a distance on the device."""
    x, y = layout.x, layout.y
    across = (x.high - x.low) * by.x() / (x.end - x.start)
    along = (y.high - y.low) * by.y() / (y.end - y.start)
    return clamped(chart, View(x.low - across, x.high - across, y.low - along, y.high - along))


def clamped(chart: Chart, view: View) -> View | None:
    """The view pushed back into the data; None when that is all of it."""
    full = whole(chart)
    left, right = _within(view.left, view.right, full.left, full.right)
    bottom, top = _within(view.bottom, view.top, full.bottom, full.top)
    found = View(left, right, bottom, top)
    return None if found == full else found


def _closer(low: float, high: float, centre: float, factor: float) -> tuple[float, float]:
    return centre + (low - centre) / factor, centre + (high - centre) / factor


def _within(low: float, high: float, least: float, most: float) -> tuple[float, float]:
    """The span low … high (or high … low for an axis that runs downwards), moved and shortened to fit."""
    if most < least:
        high, low = _within(high, low, most, least)
        return low, high
    span = min(max(high - low, (most - least) * CLOSEST), most - least)
    start = min(max(low, least), most - span)
    return (least, most) if span >= (most - least) * 0.999 else (start, start + span)
