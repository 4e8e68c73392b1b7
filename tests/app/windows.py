"""A real window with its real engine process, in folders of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from PySide6.QtCore import QCoreApplication, QEvent

from app.engine_client import EngineClient
from app.engine_process import Factories
from app.history import History
from app.main_window import Window
from app.session import Session
from app.settings import Settings
from app.window import application, build_window
from core.trace import Trace
from widgets import theme

WAIT = 60_000  # ms: the engine imports torch on a shared machine


@contextmanager
def shown_window(
    qtbot: Any,
    folder: Path,
    *,
    traces: tuple[Trace, ...] = (),
    session: Session | None = None,
    factories: Factories | None = None,
) -> Iterator[Window]:
    """Built, shown and painted; closed with its engine at the end. factories: another engine, for a session without traces."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INFERENCE_PLAYGROUND_CONFIG", str(folder / "config"))
        patch.setenv("INFERENCE_PLAYGROUND_DATA", str(folder / "data"))
        app = application()
        if theme.mode() != "dark" or not app.styleSheet():
            theme.apply(app, "dark")
        settings = Settings(theme="dark", last_session="none")
        if factories is None:
            window = build_window(settings, session, traces)
        else:
            window = Window(session or Session(), EngineClient(factories), History(), settings)
        with qtbot.waitExposed(window):
            window.show()
        try:
            yield window
        finally:
            window.close()
            window.deleteLater()
            QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def wait_idle(qtbot: Any, window: Window) -> None:
    """Until the job that runs has ended. Looked at ten times a second: more would slow the run."""
    until = monotonic() + WAIT / 1000
    while window.is_busy():
        assert monotonic() < until, "the job does not end"
        qtbot.wait(100)


def wait_for(qtbot: Any, condition: Callable[[], bool]) -> None:
    qtbot.waitUntil(condition, timeout=WAIT)
