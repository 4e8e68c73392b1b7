"""`make run`: what must be there first, then the window, or the same job without one where there is no display."""

from __future__ import annotations

import sys

from app import demo, qt
from app.cli.outcome import exit_code_of
from app.main import main
from app.prepare import prepare
from core.errors import RunFailed


def launch() -> int:
    """The exit code. Raises PlaygroundError."""
    prepare()
    if not qt.has_display():
        return demo.run()
    if reason := qt.why_not():
        raise RunFailed(f"the window cannot open on this display ({reason}); {qt.remedy()}")
    return main([])


if __name__ == "__main__":
    sys.exit(exit_code_of(launch))
