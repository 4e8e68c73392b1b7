"""Says in a shape and in words how a technique's output relates to plain decoding."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from core.technique import Exactness
from widgets import theme
from widgets.theme import GRID, colours, small_font

_SIGN = 12
_MEANING = {
    "lossless": "Lossless: the same tokens as plain greedy decoding, the same distribution when sampling.",
    "exact_at": "Exact when {setting}; otherwise approximate.",
    "approximate": "Approximate: the output may differ; how much is measured.",
}


class ExactnessBadge(QWidget):
    """A full disc for lossless, a half one for exact at a setting, a ring with ≈ for approximate; with words unless `bare`."""

    def __init__(self, bare: bool = False, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._bare = bare
        self._exactness = Exactness("lossless")
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        theme.notifier.changed.connect(self.update)

    def show_exactness(self, exactness: Exactness) -> None:
        self._exactness = exactness
        self.setToolTip(_MEANING[exactness.kind].format(setting=exactness.setting))
        self.setAccessibleName(str(exactness))
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        words = 0 if self._bare else GRID + QFontMetrics(small_font()).horizontalAdvance(str(self._exactness)) + 2
        return QSize(_SIGN + words + 2, 2 * GRID)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        kind = self._exactness.kind
        ink = QColor(colours().good if kind == "lossless" else colours().accent if kind == "exact_at" else colours().warning)
        disc = QRectF(1, (self.height() - _SIGN) / 2, _SIGN, _SIGN).adjusted(1, 1, -1, -1)
        painter.setPen(QPen(ink, 1.5))
        painter.setBrush(ink if kind == "lossless" else Qt.BrushStyle.NoBrush)
        painter.drawEllipse(disc)
        painter.setFont(small_font())
        if kind == "exact_at":
            painter.setBrush(ink)
            painter.drawPie(disc, 90 * 16, 180 * 16)
        elif kind == "approximate":
            painter.drawText(disc.adjusted(-2, -2, 2, 1), Qt.AlignmentFlag.AlignCenter, "≈")
        if not self._bare:
            painter.setPen(QColor(colours().text))
            area = self.rect().adjusted(_SIGN + GRID, 0, 0, 0)
            painter.drawText(area, Qt.AlignmentFlag.AlignVCenter, str(self._exactness))
