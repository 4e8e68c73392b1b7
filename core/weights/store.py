"""Packed weights kept on disk, so that a model is converted once.

A file holds, in the order in which a decoder is built, every matrix that its weight technique packed. It is named by the
model file's content and state, the technique with its options, and the version of the format; it ends with a digest, and one
that is damaged is made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.config import RunConfig
from core.decoder.build import Weights
from core.decoder.linear import Joined, Linear
from core.decoder.plan import Source
from core.folders import cache_folder
from core.kept import keep, kept
from core.weights.packed import Packed

VERSION = 1
_ALIGNED = 64  # bytes: arrays begin on cache lines
_MOST = 8 << 30  # bytes of all kept files together; the ones unused for longest go first
_WORTH = 8 << 20  # bytes of a model file: smaller ones are converted in no time
_SAMPLE, _SAMPLES = 1 << 16, 64


class Stored:
    """A weight technique whose packed matrices come from the file where it has them, and go there where it has not."""

    def __init__(self, technique: Weights, path: Path) -> None:
        self.technique, self.path, self.kv_dtype = technique, path, technique.kv_dtype
        self._kept = _read(path)
        self._made: list[list[Packed] | None] = []

    @classmethod
    def of(cls, technique: Weights, config: RunConfig, model: Path) -> Stored | None:
        """None for a small model, and where other techniques compute matrices that the model's file does not determine."""
        computed = config.heads.name != "as_trained" or config.ffn.name != "dense"
        if computed or not model.is_file() or model.stat().st_size < _WORTH:
            return None
        return cls(technique, cache_folder() / "weights" / f"{_key(config, model)}.packed")

    def linear(self, sources: Sequence[Source], bias: torch.Tensor | None, layer: int | None) -> Linear:
        if self._kept is None:
            made = self.technique.linear(sources, bias, layer)
            self._made.append(_packed_parts(made))
            return made
        parts = next(self._kept)
        if parts is None:
            return self.technique.linear(sources, bias, layer)
        if len(parts) == 1:
            return Packed.restored(*parts[0], bias)
        return Joined([Packed.restored(*part, None) for part in parts], bias)

    def embedding(self, source: Source) -> Callable[[torch.Tensor], torch.Tensor]:
        return self.technique.embedding(source)

    def save(self) -> None:
        """Keep what was made; a disk that is full or read-only costs the next load its second, and nothing else."""
        if self._kept is None and any(self._made):
            keep(self.path, _pieces(self._made))
            with suppress(OSError):
                _tidy(self.path.parent)


def _packed_parts(linear: Linear) -> list[Packed] | None:
    """The packed matrices side by side in `linear`; None where any of them is of another kind."""
    parts = list(linear.linears) if isinstance(linear, Joined) else [linear]
    packed = [part for part in parts if isinstance(part, Packed)]
    return packed if len(packed) == len(parts) else None


def _key(config: RunConfig, model: Path) -> str:
    """Changes with the model's file, with the technique and its options, and with the format."""
    state, digest = model.stat(), hashlib.sha256()
    digest.update(repr((VERSION, config.weights.name, config.weights.options, state.st_size, state.st_mtime_ns)).encode())
    with model.open("rb") as file:
        for index in range(_SAMPLES):
            file.seek(max(0, state.st_size - _SAMPLE) * index // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE))
    return digest.hexdigest()[:32]


def _pieces(made: Sequence[Sequence[Packed] | None]) -> Iterator[bytes | memoryview]:
    entries = [None if parts is None else [_entry(part) for part in parts] for parts in made]
    header = json.dumps(entries).encode()
    header += b" " * (-(len(header) + 8) % _ALIGNED)
    arrays = (array for parts in made for part in parts or () for array in part.arrays)
    padded = (piece for array in arrays for piece in (array.data, bytes(-array.nbytes % _ALIGNED)))
    yield from chain((len(header).to_bytes(8, "little"), header), padded)


def _entry(part: Packed) -> dict[str, Any]:
    return {**part.description, "arrays": [(array.dtype.str, array.shape) for array in part.arrays]}


Restored = tuple[dict[str, Any], list[np.ndarray]]


def _read(path: Path) -> Iterator[list[Restored] | None] | None:
    """The entries of a whole file, in order; None where there is none, or it is damaged."""
    content = kept(path)
    if content is None:
        return None
    with suppress(OSError):
        path.touch()
    end = 8 + int.from_bytes(content[:8].tobytes(), "little")
    return _entries(json.loads(content[8:end].tobytes()), content[end:])


def _entries(header: list[list[dict[str, Any]] | None], content: np.ndarray) -> Iterator[list[Restored] | None]:
    at = 0
    for parts in header:
        if parts is None:
            yield None
            continue
        restored = []
        for description in parts:
            arrays = []
            for kind, shape in description.pop("arrays"):
                size = prod(shape) * np.dtype(kind).itemsize
                arrays.append(content[at : at + size].view(kind).reshape(shape))
                at += size + -size % _ALIGNED
            restored.append((description, arrays))
        yield restored


def _tidy(folder: Path) -> None:
    """Remove the files that were unused for longest until the others fit."""
    files = sorted(folder.glob("*.packed"), key=lambda file: file.stat().st_mtime, reverse=True)
    total = 0
    for file in files:
        total += file.stat().st_size
        if total > _MOST:
            file.unlink(missing_ok=True)
