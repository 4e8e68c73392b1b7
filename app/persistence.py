"""What the window keeps between two starts: its place, its docks, its theme and its session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QByteArray

from core.errors import RunFailed
from core.folders import config_folder

if TYPE_CHECKING:
    from app.main_window import Window

LAYOUT_VERSION = 1  # raised when docks are renamed or moved, so that an old layout is not forced upon them


def restore(window: Window) -> None:
    """Put the window as it was; a layout of another version is left out."""
    settings = window.settings
    if settings.geometry:
        window.restoreGeometry(QByteArray.fromBase64(settings.geometry.encode()))
    if settings.layout:
        window.restoreState(QByteArray.fromBase64(settings.layout.encode()), LAYOUT_VERSION)
    for notice in (settings.notice, window.history.notice):
        if notice:
            window.messages.inform(notice)


def store(window: Window) -> None:
    """Keep place, docks and session. What cannot be written is said, and the window closes all the same."""
    settings = window.settings
    settings.geometry = bytes(window.saveGeometry().toBase64().data()).decode()
    settings.layout = bytes(window.saveState(LAYOUT_VERSION).toBase64().data()).decode()
    path = config_folder() / "session.json"
    try:
        settings.last_session = str(path)
        settings.save()
        window.session.save(path)
    except RunFailed as error:
        window.messages.error(str(error))
