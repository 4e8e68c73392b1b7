"""A card that opens and closes: coloured title, what it is set to in one line, and a body."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QKeyEvent, QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from widgets import theme
from widgets.labels import ElidedLabel, error_label, role_label
from widgets.theme import GRID, column_colour, family_colour, set_role

TITLE_WIDTH = 9 * GRID
BAR = 3  # pixels of the bar that marks a difference from A


class CardHeader(QWidget):
    """Chevron, colour and title; clicking it or pressing Space or Enter opens and closes the card."""

    pressed = Signal()

    def __init__(self, section: str, title: str) -> None:
        super().__init__()
        self._section = section
        self.open = False
        self.row = QHBoxLayout(self)
        self.row.setContentsMargins(5 * GRID, 0, GRID, 0)
        self.row.setSpacing(GRID)
        self.title = QLabel(title)
        set_role(self.title, "heading")
        self.title.setFixedWidth(TITLE_WIDTH)
        self.row.addWidget(self.title)
        self.setFixedHeight(5 * GRID)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setAccessibleName(title)
        theme.notifier.changed.connect(self.update)

    def set_open(self, open_: bool) -> None:
        self.open = open_
        self.setToolTip("Close" if open_ else "Open")
        self.setAccessibleDescription("open" if open_ else "closed")
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        middle = self.height() / 2
        painter.setPen(QColor(theme.colours().muted))
        x = 2.0 * GRID - 2
        if self.open:
            painter.drawPolyline(_points((x - 4, middle - 2), (x, middle + 2), (x + 4, middle - 2)))
        else:
            painter.drawPolyline(_points((x - 2, middle - 4), (x + 2, middle), (x - 2, middle + 4)))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(family_colour(self._section))
        painter.drawRoundedRect(QRectF(3 * GRID, middle - 5, 10, 10), 3, 3)
        if self.hasFocus():
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QColor(theme.colours().accent))
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(2.5, 2.5, -2.5, -2.5), 6, 6)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton and self.rect().contains(event.position().toPoint()):
            self.pressed.emit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Space, Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.pressed.emit()
        else:
            super().keyPressEvent(event)


class Card(QFrame):
    """section: the family, or `sampling` or `run`, whose colour it has."""

    toggled = Signal(bool)

    def __init__(self, section: str, title: str) -> None:
        super().__init__()
        set_role(self, "card")
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        self.section = section
        self._column = 0
        self.header = CardHeader(section, title)
        self.header.pressed.connect(lambda: self.set_open(not self.header.open))
        self.state = ElidedLabel()
        set_role(self.state, "small")
        self.difference = role_label("small", wrap=True)
        self.problem = error_label()
        self.body = QWidget()
        self.body_column = QVBoxLayout(self.body)
        self.body_column.setContentsMargins(2 * GRID, 0, 2 * GRID, GRID + 4)
        self.body_column.setSpacing(GRID)
        page = QVBoxLayout(self)
        page.setContentsMargins(1, 1, 1, 1)
        page.setSpacing(0)
        for widget in (self.header, self.difference, self.problem, self.body):
            page.addWidget(widget)
        for label in (self.difference, self.problem):
            label.setContentsMargins(5 * GRID, 0, 2 * GRID, GRID)
            label.hide()
        self.set_open(False)

    def set_open(self, open_: bool) -> None:
        self.header.set_open(open_)
        self.body.setVisible(open_)
        self.toggled.emit(open_)

    def show_difference(self, text: str, column: int) -> None:
        """Mark the card as different from A in words and with a bar in the column's colour; empty text takes the mark away."""
        self._column = column
        self.difference.setText(text)
        self.difference.setVisible(bool(text))
        self.update()

    def show_problem(self, text: str) -> None:
        """Why it cannot run as it is set; empty when it can."""
        self.problem.setText(text)
        self.problem.setVisible(bool(text))

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if self.difference.text():
            painter = QPainter(self)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(column_colour(self._column))
            painter.drawRoundedRect(QRectF(2, GRID, BAR, self.height() - 2 * GRID), BAR / 2, BAR / 2)


def _points(*places: tuple[float, float]) -> list[QPointF]:
    return [QPointF(x, y) for x, y in places]
