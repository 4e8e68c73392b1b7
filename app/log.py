"""Where each process of the program writes errors in full. Free of Qt."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TextIO

FORMAT = "%(asctime)s %(name)s: %(message)s"
QUIET = 10.0  # seconds after which an error that comes again is news
_LARGEST = 1 << 20  # bytes


class News:
    """Tells an error from its own repetitions, such as those of a timer or of a widget that is painted again and again."""

    def __init__(self) -> None:
        self._raised: dict[tuple[object, ...], float] = {}

    def is_new(self, error: BaseException) -> bool:
        """Whether none of its kind was raised at the same place in the last `QUIET` seconds."""
        place, now = _place(error), monotonic()
        last, self._raised[place] = self._raised.get(place), now
        return last is None or now - last > QUIET

    def filter(self, record: logging.LogRecord) -> bool:
        """As a filter of logging."""
        return not record.exc_info or record.exc_info[1] is None or self.is_new(record.exc_info[1])


def opened(path: Path) -> TextIO:
    """A log, started anew when it has grown large; standard error where the folder cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        small = not path.exists() or path.stat().st_size < _LARGEST
        return path.open("a" if small else "w", encoding="utf-8")
    except OSError:
        return sys.stderr


def write_to(path: Path) -> None:
    """What is logged from now on goes to standard error and to this file, errors that come again and again only once."""
    handlers = [logging.StreamHandler(stream) for stream in dict.fromkeys((sys.stderr, opened(path)))]
    for handler in handlers:
        handler.addFilter(News().filter)
    logging.basicConfig(handlers=handlers, format=FORMAT, level=logging.WARNING)


@contextmanager
def threads_told() -> Iterator[None]:
    """What ends a thread goes to `sys.excepthook`, as what ends the program does."""
    before, threading.excepthook = threading.excepthook, _hand_on
    try:
        yield
    finally:
        threading.excepthook = before


def _hand_on(ended: threading.ExceptHookArgs) -> None:
    """A thread that leaves by SystemExit has not failed."""
    error = ended.exc_value or ended.exc_type()
    if not isinstance(error, SystemExit):
        error.add_note(f"the thread “{ended.thread.name if ended.thread else ''}” broke")
        sys.excepthook(ended.exc_type, error, ended.exc_traceback)


def _place(error: BaseException) -> tuple[object, ...]:
    """Kind, file and line."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return (type(error), *((at.tb_frame.f_code.co_filename, at.tb_lineno) if at else ()))
