"""What the commands write: results to standard output, everything else to standard error."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from core.errors import RunFailed
from core.export.tables import dumps
from core.files import replacing

_EVERY = 0.1  # seconds between two progress lines
_CLEAR = "\r\x1b[K"


def say(text: str, end: str = "\n") -> None:
    """Write to standard output, at once. Raises RunFailed when it is a full disk."""
    try:
        sys.stdout.write(text + end)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RunFailed(f"standard output cannot be written: {(error.strerror or str(error)).lower()}") from None


def note(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def write_json(data: Any, path: Path) -> None:
    """Raises RunFailed when the file cannot be written."""
    write_text(dumps(data), path)


def write_text(text: str, path: Path) -> None:
    """Raises RunFailed when the file cannot be written."""
    with replacing(path, "w") as file:
        file.write(text)


class ProgressLine:
    """One line on standard error that is written over and over.

    Where that is no terminal, nothing is shown, or, with `plain`, a line for each quarter of a stage.
    """

    def __init__(self, plain: bool = False) -> None:
        self._live = sys.stderr.isatty()
        self._plain = plain and not self._live
        self._told = ("", -1)  # stage and quarters of the last plain line
        self._shown = False
        self._next = 0.0

    def show(self, stage: str, done: int = 0, total: int = 0) -> None:
        """done of total, in any unit; total 0 when it is not known."""
        if self._live and time.monotonic() >= self._next:
            sys.stderr.write(f"{_CLEAR}{stage} {100 * done // total} %" if total else f"{_CLEAR}{stage}")
            sys.stderr.flush()
            self._shown = True
            self._next = time.monotonic() + _EVERY
        elif self._plain:
            self._tell(stage, 4 * done // total if total else 0)

    def _tell(self, stage: str, quarters: int) -> None:
        if stage != self._told[0] or quarters > self._told[1]:
            note(f"{stage} {25 * quarters} %")
            self._told = (stage, quarters)

    def clear(self) -> None:
        """Make room for other text."""
        if self._shown:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()
        self._shown = False
