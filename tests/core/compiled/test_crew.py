"""The threads that run compiled code."""

from __future__ import annotations

import random
import signal
import threading
from contextlib import suppress

import numpy as np
import pytest
from numba import njit

from core.compiled.crew import Crew
from core.decoder.fused.machine import BROKEN, barrier


@njit(nogil=True)
def met(meeting, thread):
    """Two threads meet twice; the helper fails in between."""
    barrier(meeting, 1, 2)
    if thread:
        raise MemoryError("no room")
    barrier(meeting, 2, 2)


def test_that_every_thread_has_its_part() -> None:
    crew, seen = Crew(3), []
    crew.share(7, lambda first, last: seen.append((first, last)))
    assert sorted(seen) == [(0, 2), (2, 4), (4, 7)]


def test_that_in_the_middle_of_a_pass_the_caller_does_all_of_what_is_shared() -> None:
    crew, seen, meeting = Crew(2), [], threading.Barrier(2)

    def work(thread: int) -> None:
        if thread == 0:
            crew.share(5, lambda first, last: seen.append((first, last)))
        meeting.wait(timeout=10)

    crew.run(work)
    assert seen == [(0, 5)]


def test_that_helpers_who_wait_for_an_interrupted_caller_are_let_go() -> None:
    """Every thread meets the others in the middle of its work, as those of a decode step do."""
    crew, met, meeting = Crew(2), [], threading.Barrier(2)

    def meet(thread: int) -> None:
        meeting.wait(timeout=10)
        met.append(thread)

    def interrupted(thread: int) -> None:
        if thread == 0:
            signal.raise_signal(signal.SIGINT)
        meet(thread)

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            crew.run(interrupted, lambda: meet(0))
        crew.run(meet)
    assert sorted(met) == [0] * 6 + [1] * 6


def test_that_an_interrupt_at_any_moment_loses_no_helper() -> None:
    crew, parts, draw = Crew(2), [0, 0], random.Random(0)
    main = threading.main_thread().ident
    assert main is not None

    def count(thread: int) -> None:
        parts[thread] += 1

    for _ in range(40):
        with suppress(KeyboardInterrupt):
            threading.Timer(draw.uniform(0.02, 0.03), signal.pthread_kill, (main, signal.SIGINT)).start()
            while True:
                crew.run(count)
        before = parts[1]
        crew.run(count)
        assert parts[1] == before + 1


def test_that_an_error_of_the_caller_comes_through_and_the_crew_goes_on() -> None:
    crew, met = Crew(2), []

    def work(thread: int) -> None:
        if thread == 0:
            raise ValueError("odd")

    with pytest.raises(ValueError, match="odd"):
        crew.run(work)
    crew.run(met.append)
    assert sorted(met) == [0, 1]


def test_that_an_error_of_a_helper_is_raised_on_the_caller_and_the_crew_goes_on() -> None:
    crew, met = Crew(3), []

    def work(thread: int) -> None:
        if thread == 1:
            raise MemoryError("no room")

    for _ in range(3):
        with pytest.raises(MemoryError, match="no room"):
            crew.run(work)
        crew.run(met.append)
    assert sorted(met) == [0] * 3 + [1] * 3 + [2] * 3


def test_that_a_caller_who_waits_for_a_helper_that_failed_is_let_go_with_its_error() -> None:
    """In compiled code, where no signal and no exception of another thread reaches it."""
    crew, meeting, ran = Crew(2), np.zeros(1, np.int64), []
    for _ in range(3):
        meeting[0] = 0
        with pytest.raises(MemoryError, match="no room"):
            crew.run(lambda thread: met(meeting.ctypes.data, thread), lambda: meeting.fill(BROKEN))
        crew.run(ran.append)
    assert sorted(ran) == [0] * 3 + [1] * 3


def test_that_of_several_errors_the_first_is_raised() -> None:
    crew, failed = Crew(2), threading.Event()

    def work(thread: int) -> None:
        if thread:
            raise ValueError("the cause")
        assert failed.wait(timeout=10)
        raise RuntimeError("what came of it")

    with pytest.raises(ValueError, match="the cause"):
        crew.run(work, failed.set)
