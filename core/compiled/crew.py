"""The threads that run compiled code together with the caller."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from time import sleep


@cache
def crew(threads: int) -> Crew:
    """The one crew of this process: models come and go, threads stay."""
    return Crew(threads)


class Crew:
    """`threads` − 1 helpers that sleep between passes; the caller is thread 0."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._work: Callable[[int], None] | None = None
        self._rescue: Callable[[], None] | None = None
        self._errors: list[BaseException] = []  # of this pass, the first of which is the cause of the others
        self._start, self._done = _closed(threads - 1), _closed(threads - 1)
        self._pass, self._ended = 0, [0] * (threads - 1)
        for index in range(threads - 1):
            threading.Thread(target=self._help, args=(index,), name=f"decode-{index + 1}", daemon=True).start()

    def run(self, work: Callable[[int], None], rescue: Callable[[], None] | None = None) -> None:
        """Call work(thread) on every thread at once; returns when all are done, and raises the first error of any of them.

        rescue: what a thread does in place of the rest of its part when an error or Ctrl+C ends that, which may be before
        it began; for work in whose middle the others wait for it.
        """
        self._work, self._rescue, self._errors, self._pass = work, rescue, [], self._pass + 1
        asleep, errors = iter(self._start), self._errors
        try:
            for start in asleep:
                start.release()
            work(0)
            for done in self._done:
                done.acquire()
        except BaseException as error:
            for start in asleep:
                start.release()
            self._fail(error)
            self._settle()
            if not isinstance(error, Exception):
                raise
        finally:
            self._work, self._rescue, self._errors = None, None, []  # they hold a model, which must be free to go
        if errors:
            raise errors.pop(0)

    def _fail(self, error: BaseException) -> None:
        """A thread's part has ended early."""
        self._errors.append(error)
        if self._rescue is not None:
            self._rescue()

    def _settle(self) -> None:
        """Wait for every helper, of whom some were perhaps waited for already."""
        while any(ended != self._pass for ended in self._ended):
            sleep(1e-4)
        for done in self._done:
            done.acquire(blocking=False)

    def share(self, count: int, work: Callable[[int, int], None]) -> None:
        """Call work(first, last) on every thread for its part of `count` rows or blocks.

        In the middle of `run`, whose helpers are not free, the caller does all of it.
        """
        if self._work is not None:
            work(0, count)
            return
        ends = [count * thread // self.threads for thread in range(self.threads + 1)]
        self.run(lambda thread: work(ends[thread], ends[thread + 1]))

    def _help(self, index: int) -> None:
        while True:
            self._start[index].acquire()
            number = self._pass
            assert self._work is not None
            try:
                self._work(index + 1)
            except BaseException as error:
                self._fail(error)
            self._done[index].release()
            self._ended[index] = number


def _closed(count: int) -> list[threading.Lock]:
    """Locks that the first to acquire waits for. They are released and acquired in one step, which no signal divides."""
    locks = [threading.Lock() for _ in range(count)]
    for lock in locks:
        lock.acquire()
    return locks
