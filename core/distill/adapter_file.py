"""Trained tensors on disk: safetensors, and beside them the log of how they came about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from core.files import replacing
from core.models.safetensors_folder import read_header


def write(tensors: Mapping[str, Tensor], log: Mapping[str, Any], path: Path) -> None:
    """Tensors to `path` and the log to the same name with .json, each whole or not at all; RunFailed where that cannot be."""
    content = safetensors.torch.save(dict(tensors), {"format": "pt"})
    with replacing(path) as file:
        file.write(content)
    with replacing(path.with_suffix(".json"), "w") as file:
        file.write(json.dumps(log, indent=1) + "\n")


def read(path: Path) -> Mapping[str, Tensor]:
    """The tensors in `path`, kept for the next layer that asks; BadInput when the file is damaged or of another kind."""
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read(path: Path, _changed: int) -> Mapping[str, Tensor]:
    read_header(path)
    return safetensors.torch.load_file(path)
