"""`make run`: what must be there first, then the window, or the same job without one where there is no display."""

from __future__ import annotations

import sys

from app import demo, qt
from app.cli.outcome import exit_code_of
from app.main import main
from app.prepare import prepare


def launch() -> int:
    """The exit code. Raises PlaygroundError."""
    shown = qt.has_display()
    prepare(for_window=shown)
    return main([]) if shown else demo.run()


if __name__ == "__main__":
    sys.exit(exit_code_of(launch))
