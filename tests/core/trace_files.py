"""What the tests of traces on disk share: a run with everything in it, deep equality, and ways into a file."""

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from core.config import RunConfig

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


def rewrite(path: Path, **members: bytes | None) -> None:
    """Replace members of the zip; None drops one. Dots in names are written __."""
    with zipfile.ZipFile(path) as archive:
        content: dict[str, bytes | None] = {name: archive.read(name) for name in archive.namelist()}
    content |= {name.replace("__", "."): data for name, data in members.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            if data is not None:
                archive.writestr(name, data)


def document(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("trace.json"))
