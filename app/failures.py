"""Errors in the window that nobody foresaw: told in place, written to the log, and nothing else ends with them. Free of Qt.

PySide hands an exception of a slot, an event handler or an event filter to `sys.excepthook` and goes on. One in an event
handler comes once for every handler around it, with their names before its text. `threads_told` hands on what ends a thread.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from app.log import News
from core.errors import PlaygroundError
from widgets.failed_chart import log_file

Tell = Callable[[str, str], object]
_HANDLERS = re.compile(r"(Error calling Python override of \S+?\(\): )+")
_log = logging.getLogger(__name__)


class Failures:
    """The window's `sys.excepthook`.

    tell: is called with a sentence and the traceback, once for what comes again and again.

    It is called in the thread where the error was raised.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._news = News()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take every exception that PySide hands on."""
        before, sys.excepthook = sys.excepthook, self.take
        try:
            yield
        finally:
            sys.excepthook = before

    def take(self, kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
        """Log and tell an error; what is no error goes on its way."""
        if not isinstance(error, Exception):
            sys.__excepthook__(kind, error, at)
            return
        _log.error("the window", exc_info=error)
        if self._news.is_new(error):
            self._tell(_sentence(error), "".join(traceback.format_exception(error)))
        traceback.clear_frames(at)  # a painter in them would go on painting what Qt takes to be painted


@contextmanager
def during(what: str) -> Iterator[None]:
    """Name what failed where something does: `what` begins the sentence that is told."""
    try:
        yield
    except Exception as error:
        error.add_note(what)
        raise


def contained(call: Callable[[], object]) -> None:
    """Call; what goes wrong ends here, and is told as if it had been raised in a slot of its own."""
    try:
        call()
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)


def _sentence(error: Exception) -> str:
    if isinstance(error, PlaygroundError):
        return str(error)
    what = next(iter(getattr(error, "__notes__", ())), "something in the window broke")
    text = _HANDLERS.sub("", next(iter(str(error).splitlines()), ""))
    return f"{what}: {type(error).__name__}: {text} (everything else goes on; in full in {log_file()}, for a report)"
