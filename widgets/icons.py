"""Line icons, drawn in the theme's ink."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PySide6.QtCore import QByteArray, QRectF, QSize, Qt
from PySide6.QtGui import QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

from widgets.theme import colours

FOLDER = Path(__file__).resolve().parents[1] / "assets" / "icons"
_SIZES = (16, 32)


def icon(name: str, ink: str | None = None) -> QIcon:
    """The icon `name` in `ink` (#rrggbb, else the text colour). Ask again when the theme has changed."""
    return _drawn(name, ink or colours().text, colours().faint)


def app_icon() -> QIcon:
    return QIcon(str(FOLDER / "app.svg"))


@cache
def _drawn(name: str, ink: str, faint: str) -> QIcon:
    made = QIcon()
    for size in _SIZES:
        made.addPixmap(_pixmap(name, ink, size), QIcon.Mode.Normal)
        made.addPixmap(_pixmap(name, faint, size), QIcon.Mode.Disabled)
    return made


def _pixmap(name: str, ink: str, size: int) -> QPixmap:
    text = (FOLDER / f"{name}.svg").read_text(encoding="utf-8").replace("currentColor", ink)
    pixmap = QPixmap(QSize(size, size))
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    QSvgRenderer(QByteArray(text.encode())).render(painter, QRectF(0, 0, size, size))
    painter.end()
    return pixmap
