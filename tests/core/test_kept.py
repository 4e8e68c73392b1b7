"""Files that only save work."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.kept import keep, kept


def test_that_what_is_kept_comes_back_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    keep(path, [b"one", memoryview(b"two"), b""])
    content = kept(path)
    assert content is not None
    assert content.tobytes() == b"onetwo"


@pytest.mark.parametrize("damage", [lambda file: file[:-1], lambda file: b"x" + file[1:], lambda file: file[:5], lambda _: b""])
def test_that_a_damaged_file_is_as_none(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "file"
    keep(path, [bytes(100)])
    path.write_bytes(damage(path.read_bytes()))
    assert kept(path) is None
    assert kept(tmp_path / "none") is None


def test_that_a_folder_that_cannot_be_made_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    keep(tmp_path / "file" / "inside", [b"one"])
    assert (tmp_path / "file").read_text() == "in the way"
