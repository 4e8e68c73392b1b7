"""Files are written whole or not at all."""

import errno
import os
import sys
from pathlib import Path

import pytest

from core.errors import RunFailed
from core.files import replacing


def _write_half(path: Path, error: Exception) -> None:
    with replacing(path) as file:
        file.write(b"new")
        raise error


def test_that_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    for text in ("first\n", "второй\n"):
        with replacing(path, "w") as file:
            file.write(text)
    assert path.read_bytes() == "второй\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_that_an_error_inside_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError):
        _write_half(path, ZeroDivisionError())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_that_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    with pytest.raises(RunFailed, match=r"out\.bin: cannot be written: no space left.*unchanged"):
        _write_half(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_that_a_really_full_device_is_named() -> None:
    with pytest.raises(RunFailed, match="/dev/full: cannot be written: no space left"), replacing(Path("/dev/full")) as file:
        file.write(b"x" * 100_000)


def test_that_a_missing_folder_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="there is no folder"), replacing(tmp_path / "no" / "x"):
        pass
    with pytest.raises(RunFailed, match="cannot be written: is a directory"), replacing(tmp_path):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_that_permissions_and_links_are_kept(tmp_path: Path) -> None:
    path, link = tmp_path / "out.txt", tmp_path / "link.txt"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    with replacing(link, "w") as file:
        file.write("new")
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o640
