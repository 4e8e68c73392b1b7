"""No command: the window."""

from __future__ import annotations

import signal
from argparse import ArgumentParser, Namespace
from pathlib import Path

from app import qt
from core.errors import BadInput, RunFailed

_OPTIONS = ("session", "trace", "model")


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--session", dest="open_session", type=Path, metavar="FILE", help="open this session")
    parser.add_argument("--trace", dest="open_trace", type=Path, metavar="FILE", help="open this recorded run; needs no model")
    parser.add_argument("--model", dest="open_model", metavar="PATH|NAME", help="open this model")


def refuse_with_command(arguments: Namespace) -> None:
    """Raise BadInput for an option of the window in front of a command, which would do nothing there."""
    for name in _OPTIONS:
        if getattr(arguments, f"open_{name}") is not None:
            raise BadInput(f"--{name}: goes behind the command, or with no command at all")


def call(arguments: Namespace) -> int:
    if not qt.has_display():
        raise RunFailed(
            "there is no display to open the window on; the commands work without one (inference-playground --help)"
        )
    qt.load()
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, _close)
    from app.window import open_window

    return open_window(arguments.open_session, arguments.open_trace, arguments.open_model)


def _close(*_: object) -> None:
    """Close the window as a person would: it keeps its layout and ends the engine."""
    from PySide6.QtWidgets import QApplication

    QApplication.closeAllWindows()
