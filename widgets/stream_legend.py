"""What the colours of the streams mean, with units."""

from __future__ import annotations

from PySide6.QtCore import QLineF, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QLinearGradient, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from widgets import theme
from widgets.theme import GRID, colours, small_font
from widgets.token_colours import SOURCES, UNDERLINES, ColourMode, LatencyRange, Shades, ramp_ends

RAMP = 12 * GRID
SWATCH = 2 * GRID


class StreamLegend(QWidget):
    """A ramp with its two ends, swatches with their underlines, or nothing."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._mode: ColourMode = "none"
        self._gaps = LatencyRange()
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self._restyle()
        theme.notifier.changed.connect(self._restyle)

    def show_mode(self, mode: ColourMode, gaps: LatencyRange) -> None:
        """Explain `mode`; `gaps` are the ends of the latency ramp."""
        if (mode, gaps) == (self._mode, self._gaps) and self.accessibleName() == self.text():
            return
        self._mode, self._gaps = mode, gaps
        self.setAccessibleName(self.text())
        self.setVisible(mode != "none")
        self.updateGeometry()
        self.update()

    def text(self) -> str:
        """The legend in words."""
        match self._mode:
            case "none":
                return ""
            case "source":
                return ", ".join(SOURCES.values())
            case "divergence":
                return "first token that differs from A (boxed), and what follows it"
            case mode:
                return " to ".join(ramp_ends(mode, self._gaps))

    def sizeHint(self) -> QSize:
        metrics = QFontMetricsF(small_font())
        return QSize(int(self._walk(None, metrics)), 2 * GRID)

    def minimumSizeHint(self) -> QSize:
        return QSize(0, 2 * GRID)

    def _restyle(self) -> None:
        self._shades = Shades()
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setFont(small_font())
        self._walk(painter, QFontMetricsF(small_font()))

    def _walk(self, painter: QPainter | None, metrics: QFontMetricsF) -> float:
        """Lay the legend out from the left, painting it where there is a painter; its width."""
        match self._mode:
            case "none":
                return 0.0
            case "source":
                return self._sources(painter, metrics)
            case "divergence":
                x = self._swatch(painter, 0.0, "first difference", metrics, box=True)
                return self._swatch(painter, x + 2 * GRID, "what follows it", metrics)
            case mode:
                return self._ramp(painter, mode, metrics)

    def _ramp(self, painter: QPainter | None, mode: ColourMode, metrics: QFontMetricsF) -> float:
        low, high = ramp_ends(mode, self._gaps)
        x = self._words(painter, 0.0, low, metrics) + GRID
        if painter is not None:
            gradient = QLinearGradient(QPointF(x, 0), QPointF(x + RAMP, 0))
            for stop in range(9):
                gradient.setColorAt(stop / 8, self._shades.of(mode, stop / 8))
            box = QRectF(x + 0.5, self.height() / 2 - 5.5, RAMP, 12)
            painter.fillRect(box, gradient)
            painter.setPen(QPen(QColor(colours().border)))
            painter.drawRect(box)
        return self._words(painter, x + RAMP + GRID, high, metrics)

    def _sources(self, painter: QPainter | None, metrics: QFontMetricsF) -> float:
        x = -2.0 * GRID
        for source, name in SOURCES.items():
            x += 2 * GRID
            if source not in UNDERLINES:
                x = self._words(painter, x, f"{name}: plain", metrics)
                continue
            if painter is not None:
                box = QRectF(x, self.height() / 2 - 6, SWATCH, 12)
                painter.fillRect(box, self._shades.sources[source])
                painter.setPen(QPen(self._shades.inks[source], 2, UNDERLINES[source]))
                painter.drawLine(QLineF(box.left() + 1, box.bottom(), box.right() - 1, box.bottom()))
            x = self._words(painter, x + SWATCH + GRID / 2, name, metrics)
        return x

    def _swatch(self, painter: QPainter | None, x: float, name: str, metrics: QFontMetricsF, box: bool = False) -> float:
        if painter is not None:
            area = QRectF(x + 0.5, self.height() / 2 - 5.5, SWATCH, 12)
            painter.fillRect(area, self._shades.of("divergence", 1.0 if box else 0.35))
            if box:
                painter.setPen(QPen(self._shades.inks["corrected"], 1.5))
                painter.drawRect(area)
        return self._words(painter, x + SWATCH + GRID / 2, name, metrics)

    def _words(self, painter: QPainter | None, x: float, text: str, metrics: QFontMetricsF) -> float:
        width = metrics.horizontalAdvance(text)
        if painter is not None:
            painter.setPen(QPen(QColor(colours().muted)))
            painter.drawText(QRectF(x, 0, width + 1, self.height()), Qt.AlignmentFlag.AlignVCenter, text)
        return x + width
