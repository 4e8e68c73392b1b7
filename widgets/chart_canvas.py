"""The drawing surface of a chart: repaints from a backing picture, zooms, and reads out what is under the cursor."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFocusEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen, QPixmap, QResizeEvent, QWheelEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from core.charts.chart import Chart, has_data
from widgets import theme
from widgets.chart_axes import View
from widgets.chart_cursor import Move, Place, describe, first_place, held, moved, nearest, position
from widgets.chart_layout import Layout, lay_out
from widgets.chart_look import Look, look, mixed
from widgets.chart_painter import centred, paint
from widgets.chart_zoom import can_zoom, clamped, panned, zoomed
from widgets.failed_chart import failed

_MOVES: dict[int, Move] = {
    Qt.Key.Key_Left: "left", Qt.Key.Key_Right: "right", Qt.Key.Key_Up: "up", Qt.Key.Key_Down: "down",
    Qt.Key.Key_Home: "home", Qt.Key.Key_End: "end",
}  # fmt: skip
_ZOOM_STEP = 1.25
_BY_KEYBOARD = (Qt.FocusReason.TabFocusReason, Qt.FocusReason.BacktabFocusReason, Qt.FocusReason.ShortcutFocusReason)


class ChartCanvas(QWidget):
    """Shows one chart. `spoke` carries the read-out of the point under the cursor, empty when there is none.

    `picked`: row and column of a cell, or series and index of a point, that was double-clicked or entered.
    """

    spoke = Signal(str)
    zoom_changed = Signal(bool)
    picked = Signal(int, int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._chart = Chart("", "", "unavailable", "")
        self._layout: Layout | None = None
        self._picture: QPixmap | None = None
        self._view: View | None = None
        self._place: Place | None = None
        self._dragged_from: QPointF | None = None
        self._ringed = False
        self.reserve = 0.0
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        theme.notifier.changed.connect(self.invalidate)

    @property
    def chart(self) -> Chart:
        """What is drawn."""
        return self._chart

    def set_chart(self, chart: Chart) -> None:
        """Show `chart`; zoom and cursor stay when it is the same one with newer numbers."""
        if chart.name != self._chart.name or not has_data(chart):
            self._view = self._place = None
        self._chart = chart
        self._place = held(chart, self._place)
        if self._view is not None:
            self._view = clamped(chart, self._view)
        self._say()
        self.invalidate()

    def invalidate(self) -> None:
        """Paint anew at the next turn."""
        self._picture = self._layout = None
        self.update()

    def reset_zoom(self) -> None:
        self._set_view(None)

    def picture(self) -> QPixmap:
        """The chart as shown, without the cursor."""
        if self._picture is None:
            try:
                self._picture = self._painted()
            except Exception as error:
                self._fail(error)
                self._picture = self._painted()
        return self._picture

    def _painted(self) -> QPixmap:
        ratio = self.devicePixelRatioF()
        picture = QPixmap(self.size() * ratio)
        picture.setDevicePixelRatio(ratio)
        with QPainter(picture) as painter:
            paint(painter, self._chart, self.layout_of_chart(), self._look())
        return picture

    def _fail(self, error: Exception) -> None:
        """Say what failed in place of the chart."""
        self._set_view(None)
        self.set_chart(failed(self._chart.name, self._chart.title, error))

    def layout_of_chart(self) -> Layout:
        """Where everything stands at the current size and zoom."""
        if self._layout is None:
            self._layout = lay_out(self._chart, QRectF(self.rect()), self._look(), self._view, self.reserve)
        return self._layout

    def _look(self) -> Look:
        return look(theme.is_dark())

    def _set_view(self, view: View | None) -> None:
        if view != self._view:
            self._view = view
            self.zoom_changed.emit(view is not None)
            self.invalidate()

    def _zoom(self, at: QPointF, factor: float, both: bool) -> None:
        if can_zoom(self._chart) and has_data(self._chart):
            self._set_view(zoomed(self._chart, self.layout_of_chart(), at, factor, both))

    def _point_at(self, place: Place | None) -> None:
        if place != self._place:
            self._place = place
            self._say()
            self.update()

    def _say(self) -> None:
        self.spoke.emit(describe(self._chart, self._place) if self._place is not None else "")

    def _read_out(self, painter: QPainter, place: Place) -> None:
        try:
            self._draw_read_out(painter, place)
        except Exception as error:
            self._fail(error)

    def _draw_read_out(self, painter: QPainter, place: Place) -> None:
        layout, ink = self.layout_of_chart(), self._look()
        at = position(self._chart, layout, place)
        if not layout.plot.adjusted(-2, -2, 2, 2).contains(at):
            return
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(ink.accent, 1.5))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(_cell(layout, place)) if self._chart.heatmap is not None else painter.drawEllipse(at, 5, 5)
        text = painter.fontMetrics().elidedText(
            describe(self._chart, place), Qt.TextElideMode.ElideMiddle, int(self.width() - 24)
        )
        box = _beside(at, painter.fontMetrics().horizontalAdvance(text) + 16.0, QRectF(self.rect()))
        painter.setPen(QPen(ink.frame, 1.0))
        painter.setBrush(mixed(ink.ground, ink.frame, 0.5))
        painter.drawRoundedRect(box, 4, 4)
        centred(painter, text, box, ink, ink.text)

    def sizeHint(self) -> QSize:
        return QSize(480, 320)

    def minimumSizeHint(self) -> QSize:
        return QSize(200, 120)

    def paintEvent(self, event: QPaintEvent) -> None:
        picture = self.picture()
        with QPainter(self) as painter:
            painter.drawPixmap(0, 0, picture)
            painter.setFont(self._look().small)
            if self._place is not None and has_data(self._chart):
                self._read_out(painter, self._place)
            if self._ringed and self.hasFocus():
                painter.setPen(QPen(self._look().accent, 1.0))
                painter.setBrush(Qt.BrushStyle.NoBrush)
                painter.drawRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5))

    def focusInEvent(self, event: QFocusEvent) -> None:
        self._ringed = event.reason() in _BY_KEYBOARD
        super().focusInEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        self.invalidate()

    def wheelEvent(self, event: QWheelEvent) -> None:
        if not can_zoom(self._chart):
            event.ignore()
            return
        both = self._chart.heatmap is not None or bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        delta = event.angleDelta().y() or event.angleDelta().x()
        self._zoom(event.position(), _ZOOM_STEP ** (delta / 120), both)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self.setFocus(Qt.FocusReason.MouseFocusReason)
        if event.button() == Qt.MouseButton.LeftButton and self._view is not None:
            self._dragged_from = event.position()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self._dragged_from = None

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if self._view is None and self._place is not None:
            self.picked.emit(self._place.row, self._place.index)
        self.reset_zoom()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._dragged_from is not None:
            self._set_view(panned(self._chart, self.layout_of_chart(), event.position() - self._dragged_from))
            self._dragged_from = event.position()
        elif has_data(self._chart):
            self._point_at(nearest(self._chart, self.layout_of_chart(), event.position()))

    def leaveEvent(self, event: QEvent) -> None:
        if not self.hasFocus():
            self._point_at(None)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        move = _MOVES.get(event.key())
        middle = self.layout_of_chart().plot.center()
        if move is not None and has_data(self._chart):
            self._point_at(moved(self._chart, self._place, move) if self._place else first_place(self._chart))
        elif event.key() in (Qt.Key.Key_Plus, Qt.Key.Key_Equal):
            self._zoom(middle, _ZOOM_STEP, self._chart.heatmap is not None)
        elif event.key() == Qt.Key.Key_Minus:
            self._zoom(middle, 1 / _ZOOM_STEP, self._chart.heatmap is not None)
        elif event.key() == Qt.Key.Key_0:
            self.reset_zoom()
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self._place is not None:
            self.picked.emit(self._place.row, self._place.index)
        else:
            super().keyPressEvent(event)


def _cell(layout: Layout, place: Place) -> QRectF:
    """The cell's rectangle, or a ring around it where cells are tiny."""
    left, right = layout.x.at(place.index - 0.5), layout.x.at(place.index + 0.5)
    top, bottom = layout.y.at(place.row - 0.5), layout.y.at(place.row + 0.5)
    grow = max(0.0, (6 - min(right - left, bottom - top)) / 2)
    return QRectF(left, top, right - left, bottom - top).adjusted(-grow, -grow, grow, grow)


def _beside(at: QPointF, width: float, area: QRectF) -> QRectF:
    """A read-out's box near its point, inside the area."""
    height = 22.0
    left = min(max(at.x() + 10, area.left() + 4), area.right() - width - 4)
    top = at.y() - height - 10
    return QRectF(left, top if top > area.top() + 2 else at.y() + 12, width, height)
