"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from core.errors import RunFailed


@contextmanager
def replacing(path: Path, mode: Literal["wb", "w"] = "wb") -> Iterator[IO[Any]]:
    """A file that takes the place of `path` when the block ends well; on any error `path` is as it was.

    Text is UTF-8 with line ends as written. Pipes and devices are written to directly. Raises RunFailed naming the path
    and the reason (full disk, no permission, missing folder).
    """
    whole = path.is_file() or not path.exists()
    try:
        with _replaced(path.resolve(), mode) if whole else _opened(path, mode) as file:
            yield file
    except OSError as error:
        kept = "; the file that was there is unchanged" if whole and path.exists() else ""
        raise RunFailed(f"{path}: cannot be written: {_reason(path, error)}{kept}") from error


@contextmanager
def _replaced(path: Path, mode: str) -> Iterator[IO[Any]]:
    temporary = path.with_name(f".{secrets.token_hex(6)}.tmp")
    try:
        with _opened(temporary, mode.replace("w", "x")) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _opened(path: Path, mode: str) -> IO[Any]:
    return path.open(mode) if "b" in mode else path.open(mode, encoding="utf-8", newline="")


def _reason(path: Path, error: OSError) -> str:
    if not path.parent.exists():
        return f"there is no folder {path.parent}"
    return (error.strerror or str(error)).lower()
