"""A trace on disk: equal when read back, and one clear error for anything else."""

import dataclasses
import json
import tempfile
import time
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.config import RunConfig
from core.errors import BadInput, RunFailed
from core.events import (
    INSPECT,
    AttentionCaptured,
    CaptureEnded,
    CompareProgress,
    Event,
    Failed,
    LoadProgress,
    RunEvent,
    RunFinished,
    RunStarted,
    Step,
    TextDelta,
    Token,
)
from core.trace import Trace, record
from core.trace_file import load, save
from tests.traces import INFO, make_events, make_trace

BUSY = RunConfig().set(
    ["ffn.name=moefy", "decoding.name=prompt_lookup", "attention.name=sink_window", "attention.window=12", "sampling.top_p=0.9"]
)


def equal(left: Any, right: Any) -> bool:
    """Deep equality, arrays by type and content, NaN equal to NaN."""
    if isinstance(left, np.ndarray):
        return bool(left.dtype == right.dtype and np.array_equal(left, right, equal_nan=left.dtype.kind == "f"))
    if dataclasses.is_dataclass(left):
        names = [f.name for f in dataclasses.fields(left) if f.name != "revision"]
        return type(left) is type(right) and all(equal(getattr(left, n), getattr(right, n)) for n in names)
    if isinstance(left, list | tuple):
        return type(left) is type(right) and len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    return bool(type(left) is type(right) and (left == right or left != left))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "run.trace"
    save(make_trace(BUSY), path)
    return path


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


def test_that_reading_tells_how_far_it_is_and_can_be_given_up(saved: Path) -> None:
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
    began = time.perf_counter()
    save(trace, tmp_path / "run.trace")
    between = time.perf_counter()
    read = load(tmp_path / "run.trace")
    ended = time.perf_counter()
    assert len(read.tokens) == 30_000
    assert max(between - began, ended - between) < 6, "1.4 s and 0.8 s on two quiet cores"


def test_that_a_missing_file_and_another_kind_of_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no\.trace: there is no such file"):
        load(tmp_path / "no.trace")
    (tmp_path / "text.trace").write_text("not a zip")
    with pytest.raises(BadInput, match=r"text\.trace: not a trace"):
        load(tmp_path / "text.trace")
    (tmp_path / "empty.trace").write_bytes(b"")
    with pytest.raises(BadInput, match=r"empty\.trace: not a trace"):
        load(tmp_path / "empty.trace")
    with pytest.raises(BadInput, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_that_a_truncated_file_is_named(saved: Path) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match=r"run\.trace: not a trace, or only part of one"):
        load(saved)


def test_that_saving_where_there_is_no_folder_is_a_failed_run(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="there is no folder"):
        save(Trace(), tmp_path / "no" / "run.trace")


def _rewrite(path: Path, **members: bytes | None) -> None:
    """Replace members of the zip; None drops one. Dots in names are written __."""
    with zipfile.ZipFile(path) as archive:
        content: dict[str, bytes | None] = {name: archive.read(name) for name in archive.namelist()}
    content |= {name.replace("__", "."): data for name, data in members.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            if data is not None:
                archive.writestr(name, data)


def _document(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("trace.json"))


def test_that_an_unknown_version_is_named(saved: Path) -> None:
    document = _document(saved) | {"version": 7}
    _rewrite(saved, trace__json=json.dumps(document).encode())
    with pytest.raises(BadInput, match=r"run\.trace: .*version 7 of the format; this program reads version 1"):
        load(saved)


@pytest.mark.parametrize("name", ["trace__json", "arrays__bin"])
def test_that_a_missing_member_is_named(saved: Path, name: str) -> None:
    _rewrite(saved, **{name: None})
    with pytest.raises(BadInput, match=f"it holds no {name.replace('__', '.')}"):
        load(saved)


def test_that_a_short_blob_is_named(saved: Path) -> None:
    _rewrite(saved, arrays__bin=b"\0" * 64)
    with pytest.raises(BadInput, match="reaches past the 64 bytes stored"):
        load(saved)


def _references(data: Any) -> Iterator[dict[str, Any]]:
    if isinstance(data, dict):
        if "offset" in data:
            yield data
        for value in data.values():
            yield from _references(value)
    if isinstance(data, list):
        for value in data:
            yield from _references(value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"offset": -1}, {"offset": 2**70}, {"offset": True}, {"offset": "0"}, {"dtype": "|O"}, {"dtype": "<U9"}, {"dtype": []},
        {"shape": [2**40]}, {"shape": [-1]}, {"shape": [0, 2**47, 2**47]}, {"shape": "12"}, {"shape": [1.0]}, {"shape": []},
    ],
    ids=str,
)  # fmt: skip
def test_that_hostile_array_references_are_refused(saved: Path, wrong: dict[str, Any]) -> None:
    document = _document(saved)
    for reference in _references(document):
        reference |= wrong
    _rewrite(saved, trace__json=json.dumps(document).encode())
    with pytest.raises(BadInput, match=r"run\.trace: the trace is damaged: "):
        load(saved)


def test_that_a_huge_count_is_refused_without_taking_memory(saved: Path) -> None:
    document = _document(saved)
    for group in document["events"].values():
        group["count"] = 10**12
    _rewrite(saved, trace__json=json.dumps(document).encode())
    with pytest.raises(BadInput, match="damaged"):
        load(saved)


def test_that_a_configuration_this_program_does_not_know_is_named(saved: Path) -> None:
    document = _document(saved)
    document["events"]["RunStarted"]["fields"]["config"][0]["attention"] = {"name": "windows"}
    _rewrite(saved, trace__json=json.dumps(document).encode())
    with pytest.raises(BadInput, match=r"run\.trace: .*windows.*did you mean window"):
        load(saved)


PATIENT = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@PATIENT
@given(data=st.data())
def test_that_random_corruption_gives_an_error_or_the_same_trace(data: st.DataObject, tmp_path: Path) -> None:
    path, whole = tmp_path / "run.trace", _small()
    position = data.draw(st.integers(0, len(whole) - 1))
    patch = data.draw(st.binary(min_size=1, max_size=8))
    cut = data.draw(st.integers(0, 4))
    path.write_bytes(whole[:position] + patch + whole[position + cut :])
    read = _loaded(path)
    assert read is None or equal(read, _small_trace())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@PATIENT
@given(data=st.data())
def test_that_any_other_json_gives_an_error_or_a_trace(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    path.write_bytes(_small())
    document = _document(path)
    place: Any = document
    while True:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(list(keys)))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.integers(0, 3)) == 0:
            break
        place = place[key]
    place[key] = data.draw(JSON)
    _rewrite(path, trace__json=json.dumps(document).encode())
    read = _loaded(path)
    assert read is None or isinstance(read, Trace)


def _loaded(path: Path) -> Trace | None:
    """The trace, or None after the one error that is allowed."""
    try:
        return load(path)
    except BadInput as error:
        return None if str(error).startswith(f"{path}: ") else pytest.fail(str(error))


@cache
def _small_trace() -> Trace:
    return record(list(make_events(BUSY))[:14] + [event for event in make_events(BUSY) if isinstance(event, RunFinished)])


@cache
def _small() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.trace"
        save(_small_trace(), path)
        return path.read_bytes()
