"""The letter of a configuration over its line style and marker: how A, B, C and D look in every chart."""

from __future__ import annotations

from PySide6.QtCore import QLineF, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QWidget

from widgets import theme
from widgets.theme import GRID, column_colour, column_style

SIZE = QSize(3 * GRID + 4, 3 * GRID)


def paint_column_mark(painter: QPainter, box: QRectF, column: int, ink: QColor) -> None:
    """The letter, and a sample of the column's line with its marker under it."""
    style, tint = column_style(column), column_colour(column)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setFont(theme.body_font(bold=True))
    painter.setPen(ink)
    painter.drawText(box.adjusted(0, -1, 0, -6), Qt.AlignmentFlag.AlignCenter, style.letter)
    y = box.bottom() - 3.5
    pen = QPen(tint, 1.5)
    pen.setCapStyle(Qt.PenCapStyle.FlatCap)
    if style.dash:
        pen.setDashPattern(style.dash)
    painter.setPen(pen)
    painter.drawLine(QLineF(box.left() + 2, y, box.right() - 2, y))
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(tint)
    _marker(painter, QPointF(box.center().x(), y), style.marker)


def _marker(painter: QPainter, at: QPointF, marker: str, r: float = 3.0) -> None:
    corners = {"s": ((-1, -1), (1, -1), (1, 1), (-1, 1)), "t": ((0, -1.2), (1.1, 0.9), (-1.1, 0.9)),
               "d": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0))}  # fmt: skip
    if marker in corners:
        painter.drawPolygon(QPolygonF([QPointF(at.x() + r * x, at.y() + r * y) for x, y in corners[marker]]))
    else:
        painter.drawEllipse(at, r, r)


class ColumnMark(QWidget):
    """The mark of one column as a widget."""

    def __init__(self, column: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._column = column
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.setAccessibleName(f"Configuration {column_style(column).letter}")
        theme.notifier.changed.connect(self.update)

    def sizeHint(self) -> QSize:
        return SIZE

    def paintEvent(self, event: QPaintEvent) -> None:
        paint_column_mark(QPainter(self), QRectF(self.rect()), self._column, QColor(theme.colours().text))
