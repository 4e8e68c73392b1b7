"""The letters A to D as buttons of one group, each with its line style and marker."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QAbstractButton, QButtonGroup, QHBoxLayout, QSizePolicy, QWidget

from widgets import theme
from widgets.column_mark import paint_column_mark
from widgets.theme import GRID, colours, column_style

SIZE = QSize(6 * GRID, 4 * GRID)


class ColumnTabs(QWidget):
    """One button a configuration; the one shown is pressed."""

    chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._group = QButtonGroup(self)
        self._group.idClicked.connect(self.chosen)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(GRID // 2)
        self.buttons = [_Letter(column) for column in range(4)]
        for column, button in enumerate(self.buttons):
            self._group.addButton(button, column)
            row.addWidget(button)

    def show_columns(self, count: int, current: int) -> None:
        for column, button in enumerate(self.buttons):
            button.setVisible(column < count)
        self.buttons[current].setChecked(True)


class _Letter(QAbstractButton):
    def __init__(self, column: int) -> None:
        super().__init__()
        self._column = column
        self.setCheckable(True)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setToolTip(f"Show configuration {column_style(column).letter}")
        self.setAccessibleName(f"Configuration {column_style(column).letter}")
        theme.notifier.changed.connect(self.update)

    def sizeHint(self) -> QSize:
        return SIZE

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        look = colours()
        ground = look.selection if self.isChecked() else look.hover if self.underMouse() else look.window
        painter.setPen(QColor(look.accent if self.hasFocus() else look.border))
        painter.setBrush(QColor(ground))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), 6, 6)
        ink = QColor(look.text if self.isChecked() else look.muted)
        paint_column_mark(painter, QRectF(self.rect()).adjusted(GRID, 4, -GRID, -4), self._column, ink)
