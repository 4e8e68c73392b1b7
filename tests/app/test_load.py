"""How much of the processor the program takes, whatever others take."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import pytest

from app.load import Load
from core.environment import cores


@pytest.fixture
def busy() -> Iterator[list[int]]:
    """Pids of as many busy processes as there are cores."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores())]
    time.sleep(0.3)
    yield [process.pid for process in processes]
    for process in processes:
        process.kill()
        process.wait()


def _share(pids: Sequence[int]) -> float:
    load = Load()
    load.measure(pids)
    began = time.process_time()
    time.sleep(0.6)
    load.measure(pids)
    assert time.process_time() - began < 0.1
    return load.share


def test_that_busy_processes_of_ours_take_their_share(busy: list[int]) -> None:
    """All but what whoever else runs here takes of two seconds in three."""
    assert 0.3 < _share([os.getpid(), *busy]) <= 1.05


def test_that_other_programs_count_for_nothing(busy: list[int]) -> None:
    assert busy
    assert _share([os.getpid()]) < 0.1


def test_that_a_process_that_has_come_or_gone_counts_for_nothing(busy: list[int]) -> None:
    load = Load()
    load.measure([os.getpid()])
    load.measure([os.getpid(), *busy])
    assert load.share < 0.5, "the time since its start is no time since the last look"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    load.measure([ended.pid])
    assert load.share == 0
