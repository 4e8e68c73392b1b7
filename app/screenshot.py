"""Pictures of the real window, taken without a display."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic

from PySide6.QtCore import QBuffer, QByteArray, QCoreApplication, QEventLoop, QIODevice, QSize
from PySide6.QtGui import QImage, QImageWriter

from app.main_window import Window
from core.errors import BadInput
from core.files import replacing

SETTLE = 0.4  # seconds for layouts that wait for a pause


def grab(window: Window, path: Path, size: tuple[int, int], dock: str = "") -> None:
    """Show `window` at `size` with `dock` (its name or title) in front, wait until it is painted, and write a PNG.

    Raises BadInput for an unknown dock, RunFailed when the file cannot be written.
    """
    names = {name.casefold(): one.name for one in window.docks for name in (one.title, one.name)}
    if dock and dock.casefold() not in names:
        raise BadInput(f"--dock {dock}: there is no such dock; there are {', '.join(dict.fromkeys(names.values()))}")
    window.resize(QSize(*size))
    window.show()
    settle_until(lambda: window.engine.state != "starting" and window.prompt_is_counted())
    window.docks.reset()
    if dock:
        window.docks.raise_dock(names[dock.casefold()])
    settle()
    image = window.grab().toImage()
    with replacing(path) as file:
        file.write(png(image))


def settle_until(condition: Callable[[], bool], at_most: float = 30.0) -> None:
    """Let the window work until `condition` holds."""
    until = monotonic() + at_most
    while not condition() and monotonic() < until:
        settle(0.05)


def settle(seconds: float = SETTLE) -> None:
    """Let the window lay itself out and paint."""
    until = monotonic() + seconds
    while monotonic() < until:
        QCoreApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 20)


def png(image: QImage) -> bytes:
    """The image as PNG."""
    data = QByteArray()
    buffer = QBuffer(data)
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    QImageWriter(buffer, QByteArray(b"png")).write(image)
    return bytes(data.data())
