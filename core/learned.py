"""What a technique learned from a model at work, kept on disk until the model's files change."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from core.errors import RunFailed
from core.files import replacing
from core.folders import cache_folder

Arrays = dict[str, Tensor]


def learned(kind: str, model: Path, settings: object, learn: Callable[[], Arrays], fits: Callable[[Arrays], bool]) -> Arrays:
    """The arrays that `learn` makes, from disk where they were kept for the files of `model` as they are now.

    kind: folder in the cache. settings: all else that the result depends on, with a `repr` that tells. A file that is
    damaged, or whose arrays do not pass `fits`, is made again.
    """
    file = cache_folder() / kind / f"{_key(model, settings)}.npz"
    kept = _read(file)
    if kept is None or not _passes(fits, kept):
        kept = learn()
        _write(file, kept)
    return kept


def _key(model: Path, settings: object) -> str:
    files = sorted(model.iterdir()) if model.is_dir() else [model]
    stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    return hashlib.sha256(repr((str(model), stamps, settings)).encode()).hexdigest()[:32]


def _read(file: Path) -> Arrays | None:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (OSError, ValueError, TypeError, EOFError, BadZipFile):
        return None


def _passes(fits: Callable[[Arrays], bool], kept: Arrays) -> bool:
    """Arrays that are missing fit nothing."""
    try:
        return fits(kept)
    except KeyError:
        return False


def _write(file: Path, arrays: Mapping[str, Tensor]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as opened:
            np.savez(opened, **{name: tensor.numpy() for name, tensor in arrays.items()})  # type: ignore[arg-type]
    except (OSError, RunFailed):
        return  # a full or read-only disk: the run has what it needs, and the next one learns it again
