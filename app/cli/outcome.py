"""How a program of this project ends: an exit code, and one line on what went wrong."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from threading import Event, current_thread, main_thread

from app.cli.terminal import note
from app.log import threads_told
from core.errors import PlaygroundError

INTERRUPTED = 130
NOBODY_READS = 141  # as a shell reports a process that wrote into a closed pipe
_interrupted = Event()


def exit_code_of(call: Callable[[], int]) -> int:
    """What `call` returns; 2 for bad input and 1 for a failure (told in a line), 130 for Ctrl+C, 141 for a closed pipe."""
    _write_what_can_be_written()
    _interrupted.clear()
    if current_thread() is main_thread():
        signal.signal(signal.SIGINT, _interrupt)
    try:
        with threads_told():
            code = call()
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


def interrupted() -> bool:
    """Whether Ctrl+C was pressed: what runs for long asks, since code between it and here may swallow the exception."""
    return _interrupted.is_set()


def _interrupt(*_: object) -> None:
    _interrupted.set()
    raise KeyboardInterrupt


def _write_what_can_be_written() -> None:
    """A terminal that lacks a character gets its code in place of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _silence_output() -> None:
    """Let what is still buffered go nowhere, so that the interpreter does not stumble over it on its way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
