"""The threads that run compiled code."""

from __future__ import annotations

import random
import signal
import threading
from contextlib import suppress

import pytest

from core.compiled.crew import Crew


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
