"""A real window with its real engine process, in folders of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QCoreApplication, QEvent

from app.main_window import Window
from app.session import Session
from app.settings import Settings
from app.window import application, build_window
from core.trace import Trace
from widgets import theme

WAIT = 60_000  # ms: the engine imports torch on a shared machine


@contextmanager
def shown_window(
    qtbot: Any, folder: Path, *, traces: tuple[Trace, ...] = (), session: Session | None = None
) -> Iterator[Window]:
    """Built, shown and painted; closed with its engine at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INFERENCE_PLAYGROUND_CONFIG", str(folder / "config"))
        patch.setenv("INFERENCE_PLAYGROUND_DATA", str(folder / "data"))
        app = application()
        if theme.mode() != "dark" or not app.styleSheet():
            theme.apply(app, "dark")
        window = build_window(Settings(theme="dark", last_session="none"), session, traces)
        with qtbot.waitExposed(window):
            window.show()
        try:
            yield window
        finally:
            window.close()
            window.deleteLater()
            QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def wait_idle(qtbot: Any, window: Window) -> None:
    """Until the job that runs has ended."""
    qtbot.waitUntil(lambda: not window.is_busy(), timeout=WAIT)


def wait_for(qtbot: Any, condition: Callable[[], bool]) -> None:
    qtbot.waitUntil(condition, timeout=WAIT)
