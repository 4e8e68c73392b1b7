"""Memory and bandwidth of this machine."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from core import hardware
from core.environment import environment
from core.hardware import measured_bandwidth, memory_available, memory_budget, product_speed, read_speed
from core.memory import PeakMemory


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INFERENCE_PLAYGROUND_CACHE", str(tmp_path))
    monkeypatch.setattr(hardware, "_BUFFER", 16 * 2**20)
    measured_bandwidth.cache_clear()
    return tmp_path / "bandwidth.json"


def test_that_the_best_of_the_first_few_measurements_of_bandwidth_is_kept(cache: Path) -> None:
    speeds = []
    for _ in range(7):
        measured_bandwidth.cache_clear()
        speed = measured_bandwidth()
        assert speed is not None
        assert 1e8 < speed < 1e13
        speeds.append(speed)
    (kept,) = json.loads(cache.read_text()).values()
    assert len(kept) == 5
    assert speeds == [max(kept[: i + 1]) for i in range(7)]


def test_that_a_damaged_measurement_is_made_again(cache: Path) -> None:
    cache.write_text("{")
    assert measured_bandwidth() is not None


def test_that_bandwidth_is_unavailable_where_memory_is_short(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "memory_available", lambda: 1000)
    assert measured_bandwidth() is None
    assert not cache.exists()


def test_that_the_speeds_of_this_moment_are_measured_each_time(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_SIDE", 256)
    monkeypatch.setattr(hardware, "_MEASURE_FOR", 0.02)
    assert 1e8 < read_speed(1) < 1e13
    for dtype in ("float32", "bfloat16"):
        assert 1e8 < product_speed(dtype, torch.get_num_threads()) < 1e15
    assert not cache.exists()


def test_that_a_control_group_limits_what_is_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_CGROUP", tmp_path)
    free = memory_available()
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert memory_available() == 2_000_000 < free
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_available() > 2_000_000
    assert memory_budget() > memory_available()


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a run is known on Linux alone")
def test_that_the_peak_is_that_of_the_run() -> None:
    before = np.ones(2**24)  # 128 MiB that were gone before the run
    del before
    peak = PeakMemory()
    start = peak.bytes()
    block = np.ones(2**23)  # 64 MiB
    del block
    grown = peak.bytes()
    assert start is not None
    assert grown is not None
    assert 60 * 2**20 < grown - start < 80 * 2**20
    working = peak.working(kv=10 * 2**20)
    assert working is not None
    assert 50 * 2**20 < working < 70 * 2**20


def test_that_the_environment_names_versions_and_no_person_or_machine() -> None:
    told = environment()
    assert {"python", "versions", "processor", "cores", "threads", "platform", "device"} == set(told)
    assert told["versions"]["torch"]
    text = json.dumps(told)
    assert str(Path.home()) not in text
