"""The program: a command of the command line, or the window when none is given."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from app.cli import window
from app.cli.parser import make_parser
from app.cli.terminal import note
from core.errors import PlaygroundError

INTERRUPTED = 130
NOBODY_READS = 141  # as a shell reports a process that wrote into a closed pipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say; the exit code: 0, 1 (it failed), 2 (bad input), 130 (Ctrl+C), 141 (closed pipe)."""
    try:
        parsed = make_parser().parse_args(arguments)
        if parsed.call is not window.call:
            window.refuse_with_command(parsed)
        code: int = parsed.call(parsed)
        sys.stdout.flush()
    except PlaygroundError as error:
        note(f"inference-playground: {' '.join(str(error).split())}")
        return error.exit_code
    except KeyboardInterrupt:
        _silence_output()
        return INTERRUPTED
    except BrokenPipeError:
        _silence_output()
        return NOBODY_READS
    return code


def _silence_output() -> None:
    """Let what is still buffered go nowhere, so that the interpreter does not stumble over it on its way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
