"""The headers of safetensors files, and the files in memory. Free of torch."""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from core.errors import BadInput

_VALUE_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1,
    "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
}  # fmt: skip
_MOST_HEADER_BYTES = 100_000_000  # the format's own limit


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a safetensors file. start: byte in the file."""

    file: Path
    kind: str
    shape: tuple[int, ...]
    start: int
    nbytes: int


def mapped(file: Path) -> mmap.mmap:
    """The content of a file; BadInput when it cannot be read or is empty."""
    try:
        with file.open("rb") as opened:
            if opened.seek(0, 2) == 0:
                raise BadInput(f"{file}: the file is empty")
            return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise BadInput(f"{file}: cannot be read: {(error.strerror or str(error)).lower()}") from None


def read_header(file: Path) -> dict[str, TensorEntry]:
    """The tensors of a safetensors file; BadInput when it is damaged or of another kind."""
    with mapped(file) as content:
        size, length = len(content), int.from_bytes(content[:8], "little")
        if size < 8 or length > min(size - 8, _MOST_HEADER_BYTES):
            raise BadInput(f"{file}: not a whole safetensors file: it is cut short, damaged or of another kind")
        text = content[8 : 8 + length]
    try:
        header = json.loads(text)
        return {name: _entry(file, name, entry, 8 + length, size) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise BadInput(f"{file}: the safetensors header is damaged") from None


def _entry(file: Path, name: str, entry: Mapping[str, Any], data: int, size: int) -> TensorEntry:
    """Raises KeyError, TypeError or ValueError for a malformed entry."""
    shape, (start, end) = tuple(map(_whole, entry["shape"])), map(_whole, entry["data_offsets"])
    kind = str(entry["dtype"])
    if data + end > size:
        raise BadInput(f"{file}: tensor {name} ends at byte {data + end} of a file of {size}: the file is cut short")
    if (end - start != prod(shape) * _VALUE_BYTES.get(kind, 0) and kind in _VALUE_BYTES) or start > end:
        raise BadInput(f"{file}: tensor {name} of shape {list(shape)} and type {kind} does not take {end - start} bytes")
    return TensorEntry(file, kind, shape, data + start, end - start)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError
    return value
