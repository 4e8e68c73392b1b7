"""A trace on disk: equal when read back, and quick to save and open."""

import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from core.config import RunConfig
from core.errors import BadInput
from core.events import (
    INSPECT,
    AttentionCaptured,
    CaptureEnded,
    CompareProgress,
    Event,
    Failed,
    LoadProgress,
    RunEvent,
    RunStarted,
    Step,
    TextDelta,
    Token,
)
from core.trace import Trace, record
from core.trace_file import load, save
from tests.core.trace_files import BUSY, equal
from tests.traces import INFO, make_events, make_trace


def _endings() -> Iterator[Event]:
    yield CaptureEnded(3, "128 MiB of attention are captured")
    yield Failed("out of memory", bad_input=False)


@pytest.mark.parametrize("config", [RunConfig(), BUSY])
@pytest.mark.parametrize("inspect", [True, False])
def test_that_a_run_reads_back_equal(config: RunConfig, inspect: bool, tmp_path: Path) -> None:
    trace = make_trace(config, inspect=inspect)
    save(trace, tmp_path / "run.trace")
    read = load(tmp_path / "run.trace")
    assert equal(trace, read)
    assert read.started is not None
    assert read.started.config == config


def test_that_a_run_that_failed_midway_reads_back_equal(tmp_path: Path) -> None:
    trace = record([*make_events(BUSY, finished=False), *_endings()])
    save(trace, tmp_path / "run.trace")
    assert equal(trace, load(tmp_path / "run.trace"))


def test_that_an_empty_trace_reads_back_equal(tmp_path: Path) -> None:
    save(Trace(), tmp_path / "run.trace")
    assert equal(Trace(), load(tmp_path / "run.trace"))


def test_that_odd_text_and_numbers_survive(tmp_path: Path) -> None:
    texts = ("", "\x00", "\ud800", "日本", "\\xE2", '"</script>', "a,b\n")
    tokens = tuple(Token(i, 2**40 + i, text, "sampled", float("nan"), 0.1) for i, text in enumerate(texts))
    environment = {"threads": 2, "cores": [1, 2, {"kind": None}], "nan": float("inf")}
    started = RunStarted(BUSY, INFO, "\n\ud800é", True, tokens, INSPECT, environment)
    step = Step(-1, tokens, 1.5, {"decode": 0.1 + 0.2, "odd.phase": -0.0}, 1, 2)
    trace = record([LoadProgress("reading", 1, 0), started, step, Step(0, (), 0.0, {}, 0, 0), TextDelta("é")])
    save(trace, tmp_path / "run.trace")
    assert equal(trace, load(tmp_path / "run.trace"))


def test_that_every_event_of_a_run_is_in_the_round_trips_above() -> None:
    seen = {type(event) for event in (*make_events(BUSY), *_endings())}
    assert seen == set(get_args(RunEvent))
    assert CompareProgress not in seen


def test_that_arrays_too_large_to_be_worth_packing_are_stored_and_read_back_equal(tmp_path: Path) -> None:
    maps = [AttentionCaptured(i, 0, i, np.full((9, 1000, 500), i, np.float16), np.arange(500, dtype=np.int32)) for i in (0, 1)]
    trace = record([*make_events(inspect=False), *maps])
    save(trace, tmp_path / "run.trace")
    with zipfile.ZipFile(tmp_path / "run.trace") as archive:
        kinds = {entry.filename: entry.compress_type for entry in archive.infolist()}
    assert kinds == {"trace.json": zipfile.ZIP_DEFLATED, "arrays.bin": zipfile.ZIP_STORED}
    assert equal(trace, load(tmp_path / "run.trace"))
    damaged = bytearray((tmp_path / "run.trace").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "run.trace").write_bytes(damaged)
    with pytest.raises(BadInput, match="Bad CRC-32"):
        load(tmp_path / "run.trace")


def test_that_reading_tells_how_far_it_is_and_can_be_given_up(tmp_path: Path) -> None:
    saved = tmp_path / "run.trace"
    save(make_trace(BUSY), saved)
    shares: list[float] = []
    load(saved, shares.append)
    assert shares == sorted(shares)
    assert shares[0] >= 0
    assert 0.9 < shares[-1] <= 1

    def give_up(share: float) -> None:
        if share > 0.4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(saved, give_up)


def test_that_equal_traces_make_equal_files(tmp_path: Path) -> None:
    save(make_trace(BUSY), tmp_path / "a.trace")
    save(make_trace(BUSY), tmp_path / "b.trace")
    assert (tmp_path / "a.trace").read_bytes() == (tmp_path / "b.trace").read_bytes()


def test_that_thirty_thousand_tokens_save_and_open_quickly(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    ids = draw.integers(0, 49_152, (30_000, 256)).astype(np.int32)
    shares = np.sort(draw.random((30_000, 256)).astype(np.float32) ** 40, axis=1)[:, ::-1]
    phases = {f"decode.{name}": 1.25 for name in ("embed", "norm", "attention", "ffn", "head", "cache")}
    trace = record(
        Step(i, (Token(i, i, f" {i}", "sampled", 8.1, 0.5, 1.2, ids[i], shares[i], (" a",) * 10),), 8.0, phases, i, i)
        for i in range(30_000)
    )
    began = time.process_time()
    save(trace, tmp_path / "run.trace")
    between = time.process_time()
    read = load(tmp_path / "run.trace")
    ended = time.process_time()
    assert len(read.tokens) == 30_000
    assert max(between - began, ended - between) < 4, "1.4 s and 0.8 s of processor time where nothing else runs"
