"""One clear error for a file that is not a trace, or no longer one."""

import json
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import BadInput, RunFailed
from core.events import RunFinished
from core.trace import Trace, record
from core.trace_file import load, save
from tests.core.trace_files import BUSY, document, equal, rewrite
from tests.traces import make_events, make_trace


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "run.trace"
    save(make_trace(BUSY), path)
    return path


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


def test_that_an_unknown_version_is_named(saved: Path) -> None:
    found = document(saved) | {"version": 7}
    rewrite(saved, trace__json=json.dumps(found).encode())
    with pytest.raises(BadInput, match=r"run\.trace: .*version 7 of the format; this program reads version 1"):
        load(saved)


@pytest.mark.parametrize("name", ["trace__json", "arrays__bin"])
def test_that_a_missing_member_is_named(saved: Path, name: str) -> None:
    rewrite(saved, **{name: None})
    with pytest.raises(BadInput, match=f"it holds no {name.replace('__', '.')}"):
        load(saved)


def test_that_a_short_blob_is_named(saved: Path) -> None:
    rewrite(saved, arrays__bin=b"\0" * 64)
    with pytest.raises(BadInput, match="reaches past the 64 bytes stored"):
        load(saved)


def test_that_a_member_that_ends_before_its_size_is_named(saved: Path) -> None:
    rewrite(saved, arrays__bin=b"\0" * 64)
    whole = bytearray(saved.read_bytes())
    size = whole.rindex(b"PK\x01\x02") + 24  # of arrays.bin, which the list at the end of the zip names last
    assert int.from_bytes(whole[size : size + 4], "little") == 64
    whole[size : size + 4] = (80).to_bytes(4, "little")
    saved.write_bytes(whole)
    with pytest.raises(BadInput, match=r"arrays\.bin ends after 64 of 80 bytes"):
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
    found = document(saved)
    for reference in _references(found):
        reference |= wrong
    rewrite(saved, trace__json=json.dumps(found).encode())
    with pytest.raises(BadInput, match=r"run\.trace: the trace is damaged: "):
        load(saved)


def test_that_a_huge_count_is_refused_without_taking_memory(saved: Path) -> None:
    found = document(saved)
    for group in found["events"].values():
        group["count"] = 10**12
    rewrite(saved, trace__json=json.dumps(found).encode())
    with pytest.raises(BadInput, match="damaged"):
        load(saved)


def test_that_a_configuration_this_program_does_not_know_is_named(saved: Path) -> None:
    found = document(saved)
    found["events"]["RunStarted"]["fields"]["config"][0]["attention"] = {"name": "windows"}
    rewrite(saved, trace__json=json.dumps(found).encode())
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
    found = document(path)
    place: Any = found
    while True:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(list(keys)))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.integers(0, 3)) == 0:
            break
        place = place[key]
    place[key] = data.draw(JSON)
    rewrite(path, trace__json=json.dumps(found).encode())
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
