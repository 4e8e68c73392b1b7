"""The exact tokens of a prompt as chips: the piece of text, and its id under it."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QGuiApplication, QKeyEvent, QKeySequence, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QAbstractScrollArea, QFrame, QWidget

from widgets import theme
from widgets.stream_items import visible
from widgets.theme import GRID, colours, mono_font

HEIGHT = 5 * GRID - 2
GAP = GRID // 2


class TokenChips(QAbstractScrollArea):
    """Chips in reading order, wrapped over lines. Ctrl+C copies all ids."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAccessibleName("Token ids of the prompt")
        self._tokens: list[tuple[int, str]] = []
        self._boxes: list[QRectF] = []
        self._font, self._small = mono_font(), mono_font(small=True)
        self._width, self._small_width = QFontMetricsF(self._font), QFontMetricsF(self._small)
        theme.notifier.changed.connect(self.viewport().update)

    def show_tokens(self, tokens: Sequence[tuple[int, str]]) -> None:
        """tokens: id and piece of each."""
        self._tokens = [(token, visible(piece)) for token, piece in tokens]
        self.setAccessibleDescription(", ".join(f"{piece} {token}" for token, piece in self._tokens[:200]))
        self._lay_out()

    def ids(self) -> list[int]:
        return [token for token, _ in self._tokens]

    def _lay_out(self) -> None:
        self._boxes = []
        x = y = 0.0
        limit = self.viewport().width()
        for token, piece in self._tokens:
            wide = max(self._width.horizontalAdvance(piece), self._small_width.horizontalAdvance(str(token))) + 2 * GRID
            if x > 0 and x + wide > limit:
                x, y = 0.0, y + HEIGHT + GAP
            self._boxes.append(QRectF(x + 0.5, y + 0.5, wide - 1, HEIGHT - 1))
            x += wide + GAP
        bar = self.verticalScrollBar()
        bar.setSingleStep(HEIGHT + GAP)
        bar.setPageStep(self.viewport().height())
        bar.setRange(0, max(0, int(y + HEIGHT) - self.viewport().height()))
        self.viewport().update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self.viewport())
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        look, scrolled = colours(), self.verticalScrollBar().value()
        for (token, piece), box in zip(self._tokens, self._boxes):
            place = box.translated(0, -scrolled)
            if not place.intersects(QRectF(event.rect())):
                continue
            painter.setPen(QColor(look.border))
            painter.setBrush(QColor(look.raised))
            painter.drawRoundedRect(place, 4, 4)
            self._write(painter, place.adjusted(0, 3, 0, -place.height() / 2 + 2), piece, look.text, small=False)
            self._write(painter, place.adjusted(0, place.height() / 2 + 1, 0, -2), str(token), look.muted, small=True)

    def _write(self, painter: QPainter, box: QRectF, text: str, ink: str, small: bool) -> None:
        painter.setFont(self._small if small else self._font)
        painter.setPen(QColor(ink))
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter, text)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._lay_out()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            QGuiApplication.clipboard().setText(" ".join(map(str, self.ids())))
        else:
            super().keyPressEvent(event)
