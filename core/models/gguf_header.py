"""The header of a GGUF file: its metadata and where each tensor lies. Nothing in it is believed before it is checked."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import BadInput
from core.models.gguf_types import ARRAY, SCALARS, STRING, TENSORS

READABLE = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
_MOST_STRINGS = 2**23  # the largest vocabularies have 2**18 tokens and twice as many merges
_LONGEST_NAME = 200  # characters; the format allows keys of 65535, and no model uses more than some dozens
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a GGUF file. shape: row-major, [out, in] for a matrix. start: byte in the file."""

    name: str
    kind: str
    shape: tuple[int, ...]
    start: int
    nbytes: int


@dataclass(frozen=True)
class Strings:
    """An array of strings: where its first one begins, and how many there are. They are read when they are asked for."""

    mapped: mmap.mmap
    start: int
    count: int

    def read(self) -> list[str]:
        """Every string; what is no UTF-8 is replaced."""
        found, at = [], self.start
        for _ in range(self.count):
            first = at + _LENGTH.size
            at = first + _LENGTH.unpack_from(self.mapped, at)[0]
            found.append(self.mapped[first:at].decode("utf-8", "replace"))
        return found


@dataclass(frozen=True)
class Header:
    """Metadata by key (arrays of numbers as NumPy arrays, of strings as Strings) and tensors by name."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, TensorEntry]
    mapped: np.ndarray  # uint8 [bytes of the file], read-only


def read_header(path: Path) -> Header:
    """Map `path` and read its header; BadInput when it is not a whole, sound, little-endian GGUF file of version 2 or 3."""
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:
                raise BadInput(f"{path}: the file is empty")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    return _Reader(path, mapped).header()


class _Reader:
    """Walks the header, checking every length against the bytes that are left."""

    def __init__(self, path: Path, mapped: mmap.mmap) -> None:
        self.path = path
        self.mapped = mapped
        self.size = len(mapped)
        self.at = 0
        self.strings = 0

    def header(self) -> Header:
        if self.mapped[:4] != b"GGUF":
            raise self.bad("this is not a GGUF file (it does not begin with GGUF)")
        self.at = 4
        version = self.number("I")
        if version not in (2, 3):
            raise self.bad(f"GGUF version {version} is not known here; versions 2 and 3 are (little-endian)")
        tensors, pairs = self.number("Q"), self.number("Q")
        self.check_count(pairs, 13, "metadata entries")
        self.check_count(tensors, 24, "tensors")
        metadata = dict(self.pair() for _ in range(pairs))
        _refuse_split(self.path, metadata)
        entries = [self.entry() for _ in range(tensors)]
        return self.placed(metadata, entries)

    def placed(self, metadata: dict[str, Any], entries: list[tuple[str, int, tuple[int, ...], int]]) -> Header:
        """Turn offsets into places in the file, and check that each tensor lies wholly inside it."""
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= 2**16 or alignment % 8:
            raise self.bad(f"general.alignment is {alignment!r}, not a multiple of 8 up to 65536")
        first = -(-self.at // alignment) * alignment
        tensors = {entry[0]: self.tensor(first, *entry) for entry in entries}
        if len(tensors) != len(entries):
            raise self.bad("two tensors have the same name")
        return Header(self.path, metadata, tensors, np.frombuffer(self.mapped, dtype=np.uint8))

    def tensor(self, first: int, name: str, type_: int, shape: tuple[int, ...], offset: int) -> TensorEntry:
        if type_ not in TENSORS:
            raise self.bad(f"tensor {name} has the unknown type {type_}; readable are {', '.join(READABLE)}")
        kind, values, size = TENSORS[type_]
        if shape[-1] % values:
            raise self.bad(f"tensor {name} has rows of {shape[-1]} values, which are no whole {kind} blocks of {values}")
        nbytes, start = prod(shape) // values * size, first + offset
        if offset % 8 or start + nbytes > self.size:
            raise self.bad(
                f"tensor {name} ends at byte {start + nbytes} of a file of {self.size}: the file is cut short or damaged"
            )
        return TensorEntry(name, kind, shape, start, nbytes)

    def entry(self) -> tuple[str, int, tuple[int, ...], int]:
        name, dimensions = self.name(), self.number("I")
        if not 1 <= dimensions <= 4:
            raise self.bad(f"tensor {name} has {dimensions} dimensions; 1 to 4 are possible")
        shape = tuple(self.number("Q") for _ in range(dimensions))[::-1]
        if 0 in shape:
            raise self.bad(f"tensor {name} is empty")
        return name, self.number("I"), shape, self.number("Q")

    def pair(self) -> tuple[str, Any]:
        key = self.name()
        return key, self.value(self.type_of(key), key)

    def value(self, type_: int, key: str) -> Any:
        if type_ == STRING:
            return self.string()
        if type_ != ARRAY:
            return self.number(SCALARS[type_])
        inner, count = self.type_of(key), self.number("Q")
        if inner == ARRAY:
            raise self.bad(f"{key} is an array of arrays, which GGUF readers do not take")
        return self.string_list(count) if inner == STRING else self.numbers(count, SCALARS[inner])

    def type_of(self, key: str) -> int:
        code = int(self.number("I"))
        if code not in (STRING, ARRAY, *SCALARS):
            raise self.bad(f"{key!r} has the unknown value type {code}: the header is damaged")
        return code

    def numbers(self, count: int, code: str) -> np.ndarray:
        width = struct.calcsize(f"<{code}")
        self.check_count(count, width, "array entries")
        values = np.frombuffer(self.mapped, dtype=np.dtype(code).newbyteorder("<"), count=count, offset=self.at)
        self.at += count * width
        return values

    def string_list(self, count: int) -> Strings:
        """Walks past the strings: a vocabulary is long, and most who read a header do not need it."""
        self.check_count(count, 8, "strings")
        self.strings += count
        if self.strings > _MOST_STRINGS:
            raise self.bad(f"the header claims {self.strings} strings; no model has so many")
        start = at = self.at
        length, mapped, last = _LENGTH.unpack_from, self.mapped, self.size - _LENGTH.size
        for _ in range(count):
            if at > last:
                raise self.cut_short()
            at += _LENGTH.size + length(mapped, at)[0]
        if at > self.size:
            raise self.cut_short()
        self.at = at
        return Strings(mapped, start, count)

    def name(self) -> str:
        """A key or a tensor's name, fit to be shown."""
        name = self.string()
        if not name.isprintable() or len(name) > _LONGEST_NAME:
            raise self.bad("a name in the header is no text: the header is damaged")
        return name

    def string(self) -> str:
        start = self.at + 8
        if start > self.size:
            raise self.cut_short()
        end = start + int.from_bytes(self.mapped[self.at : start], "little")
        if end > self.size:
            raise self.cut_short()
        self.at = end
        return self.mapped[start:end].decode("utf-8", "replace")

    def number(self, code: str) -> Any:
        width = struct.calcsize(f"<{code}")
        if self.at + width > self.size:
            raise self.cut_short()
        (value,) = struct.unpack_from(f"<{code}", self.mapped, self.at)
        self.at += width
        return value

    def check_count(self, count: int, least: int, what: str) -> None:
        """Refuse a count that the bytes left cannot hold, before anything is made of it."""
        if count * least > self.size - self.at:
            raise self.bad(f"the header claims {count} {what}, more than the file holds: it is cut short or damaged")

    def cut_short(self) -> BadInput:
        return self.bad(f"the file ends inside its header, at byte {self.size}: it is cut short or damaged")

    def bad(self, reason: str) -> BadInput:
        return BadInput(f"{self.path}: {reason}")


def _refuse_split(path: Path, metadata: dict[str, Any]) -> None:
    parts = metadata.get("split.count", 0)
    if isinstance(parts, int) and parts > 1:
        raise BadInput(
            f"{path}: this is one of {parts} parts of a split model; join them with `llama-gguf-split --merge` first"
        )
