"""The program: a command of the command line, or the window when none is given."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from app.cli import window
from app.cli.outcome import exit_code_of
from app.cli.parser import make_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say; the exit code."""
    return exit_code_of(lambda: _called(arguments))


def _called(arguments: Sequence[str] | None) -> int:
    parsed = make_parser().parse_args(arguments)
    if parsed.call is not window.call:
        window.refuse_with_command(parsed)
    return int(parsed.call(parsed))


if __name__ == "__main__":
    sys.exit(main())
