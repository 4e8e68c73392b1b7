"""The threads that run compiled code together with the caller."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache


@cache
def crew(threads: int) -> Crew:
    """The one crew of this process: models come and go, threads stay."""
    return Crew(threads)


class Crew:
    """`threads` − 1 helpers that sleep between passes; the caller is thread 0."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._work: Callable[[int], None] | None = None
        self._start = [threading.Semaphore(0) for _ in range(threads - 1)]
        self._done = threading.Semaphore(0)
        for index, start in enumerate(self._start):
            threading.Thread(target=self._help, args=(index + 1, start), name=f"decode-{index + 1}", daemon=True).start()

    def run(self, work: Callable[[int], None]) -> None:
        """Call work(thread) on every thread at once; returns when all are done."""
        self._work = work
        for start in self._start:
            start.release()
        try:
            work(0)
        finally:
            for _ in self._start:
                self._done.acquire()
            self._work = None  # it holds a model, which must be free to go

    def share(self, count: int, work: Callable[[int, int], None]) -> None:
        """Call work(first, last) on every thread for its part of `count` rows or blocks."""
        ends = [count * thread // self.threads for thread in range(self.threads + 1)]
        self.run(lambda thread: work(ends[thread], ends[thread + 1]))

    def _help(self, thread: int, start: threading.Semaphore) -> None:
        while True:
            start.acquire()
            assert self._work is not None
            self._work(thread)
            self._done.release()
