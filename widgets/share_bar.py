"""A bar made of parts, and the parts in words under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QPainter, QPainterPath, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QWidget

from widgets import theme
from widgets.quantity import spoken
from widgets.theme import GRID, colours, small_font

BAR = GRID + 2
LINE = 2 * GRID + 2
SWATCH = GRID


@dataclass(frozen=True)
class Part:
    """Bytes of one kind, in its colour (#rrggbb)."""

    name: str
    size: int
    ink: str


class ShareBar(QWidget):
    """Parts side by side, to the scale of `limit` where there is one (what is over it is hatched), else of their sum."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._parts: tuple[Part, ...] = ()
        self._limit: int | None = None
        theme.notifier.changed.connect(self.update)
        self._lines = 1

    def show_parts(self, parts: Sequence[Part], limit: int | None = None) -> None:
        self._parts = tuple(part for part in parts if part.size > 0)
        self._limit = limit
        self.setAccessibleName(", ".join(f"{part.name} {spoken(float(part.size), 'B')}" for part in self._parts))
        self._fit()
        self.update()

    def _fit(self) -> None:
        self._lines = 1 + max((line for line, _, _ in self._words()), default=0)
        self.setFixedHeight(BAR + GRID // 2 + self._lines * LINE)

    def _words(self) -> list[tuple[int, float, str]]:
        """(line, x, text) of each part's name and size."""
        metrics, line, x = QFontMetricsF(small_font()), 0, 0.0
        placed = []
        for part in self._parts:
            text = f"{part.name} {spoken(float(part.size), 'B')}"
            wide = SWATCH + GRID / 2 + metrics.horizontalAdvance(text) + 2 * GRID
            if x > 0 and x + wide - 2 * GRID > self.width():
                line, x = line + 1, 0.0
            placed.append((line, x, text))
            x += wide
        return placed

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        total = sum(part.size for part in self._parts)
        scale = self.width() / max(1, total, self._limit or 0)
        self._paint_bar(painter, scale)
        painter.setFont(small_font())
        for part, (line, x, text) in zip(self._parts, self._words()):
            top = BAR + GRID / 2 + line * LINE
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(part.ink))
            painter.drawRoundedRect(QRectF(x, top + (LINE - SWATCH) / 2, SWATCH, SWATCH), 2, 2)
            painter.setPen(QColor(colours().muted))
            box = QRectF(x + SWATCH + GRID / 2, top, self.width(), LINE)
            painter.drawText(box, Qt.AlignmentFlag.AlignVCenter, text)

    def _paint_bar(self, painter: QPainter, scale: float) -> None:
        shape = QPainterPath()
        shape.addRoundedRect(QRectF(0, 0, self.width(), BAR), 4, 4)
        painter.save()
        painter.setClipPath(shape)
        painter.fillRect(QRectF(0, 0, self.width(), BAR), QColor(colours().hover))
        x = 0.0
        for part in self._parts:
            painter.fillRect(QRectF(x, 0, part.size * scale - 1, BAR), QColor(part.ink))
            x += part.size * scale
        if self._limit is not None and self._limit * scale < x:
            over = QRectF(self._limit * scale, 0, x - self._limit * scale, BAR)
            painter.fillRect(over, QColor(colours().error))
            painter.fillRect(over, Qt.BrushStyle.BDiagPattern)
            painter.setPen(QPen(QColor(colours().text), 2))
            painter.drawLine(over.topLeft(), over.bottomLeft())
        painter.restore()
