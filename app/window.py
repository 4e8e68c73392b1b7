"""Opens the window: on a session, a recorded run, a model, or on what was open last."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast

from PySide6.QtWidgets import QApplication

from app import log
from app import session as session_file
from app import settings as settings_file
from app.engine_client import EngineClient
from app.failures import Failures
from app.history import History
from app.main_window import Window
from app.session import Session
from app.settings import Settings
from core import trace_file
from core.errors import BadInput
from core.trace import Trace
from widgets import theme
from widgets.failed_chart import log_file

SAMPLE = Path(__file__).resolve().parents[1] / "assets" / "sample.trace"
NAME = "Inference Playground"
PROMPT = "Explain in one short paragraph why the sky is blue."


def open_window(session: Path | None, trace: Path | None, model: str | None) -> int:
    """Show the window until it is closed; the exit code. Raises BadInput when what is to be opened cannot be.

    A trace is read while the window stands already.
    """
    opened = session_file.read(session) if session else None
    if trace is not None and not trace.is_file():
        raise BadInput(f"{trace}: there is no such file")
    log.write_to(log_file())
    app = application()
    settings = settings_file.read()
    theme.apply(app, cast(theme.Mode, settings.theme))
    window = build_window(settings, opened, model=model, sample=trace is None)
    window.show()
    with Failures(window.messages.broke.emit).taken():
        if trace is not None:
            window.attempt(lambda: _open_trace(window, trace, model))
        return app.exec()


def _open_trace(window: Window, path: Path, model: str | None) -> None:
    """Beside the window, which stands already."""

    def show(traces: list[Trace]) -> None:
        window.show_traces(traces)
        if model is not None:
            window.open_model(model)

    window.open_runs(path.name, [partial(trace_file.load, path)], show)


def build_window(
    settings: Settings,
    session: Session | None = None,
    traces: Sequence[Trace] = (),
    model: str | None = None,
    sample: bool = True,
) -> Window:
    """The whole window with its engine process, not shown yet.

    traces: up to four runs to show. With nothing named, what was open last; at the very first start, the recorded sample,
    where that is wanted.
    """
    first_start = not settings.last_session
    window = Window(session or _last(settings), EngineClient(), History(), settings)
    if traces:
        window.show_traces(traces)
    elif sample and session is None and first_start and model is None and SAMPLE.is_file():
        window.show_traces([trace_file.load(SAMPLE)])
    if model is not None:
        window.open_model(model)
    return window


def application() -> QApplication:
    """The one application object, named for the desktop and for screen readers."""
    app = QApplication.instance()
    app = app if isinstance(app, QApplication) else QApplication([NAME])
    app.setApplicationName(NAME)
    app.setApplicationDisplayName(NAME)
    app.setDesktopFileName("inference-playground")
    return app


def _last(settings: Settings) -> Session:
    """What was open last; a fresh session where that is gone or not readable."""
    path = Path(settings.last_session)
    if not settings.last_session or not path.is_file():
        return Session(prompt=PROMPT)
    try:
        return session_file.read(path)
    except BadInput as error:
        settings.notice = str(error)
        return Session(prompt=PROMPT)
