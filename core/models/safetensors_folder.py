"""A folder of safetensors files as a checkpoint: memory-mapped, its headers read without torch."""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import BadInput
from core.models.checkpoint import Checkpoint, StoredTensor, bytes_by_kind
from core.models.folder_config import config_in, describe_config
from core.models.folder_tokenizer import read_json
from core.models.info import ModelInfo
from core.models.shapes import check_shape

_VALUE_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1,
    "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
}  # fmt: skip
_MOST_HEADER_BYTES = 100_000_000  # the format's own limit
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a safetensors file. start: byte in the file."""

    file: Path
    kind: str
    shape: tuple[int, ...]
    start: int
    nbytes: int


class SafetensorsCheckpoint(Checkpoint):
    """The weights in `folder`; BadInput when the folder lacks a part or a file is damaged."""

    def __init__(self, folder: Path) -> None:
        self._entries = entries_in(folder)
        self.config = config_in(folder, self._entries)
        self.info = _info(folder, self.config, self._entries)
        if self.info.tied_head:
            self._entries.pop("lm_head.weight", None)
        self._mapped: dict[Path, np.ndarray] = {}

    def names(self) -> tuple[str, ...]:
        return tuple(self._entries)

    def tensor(self, name: str) -> StoredTensor:
        if name not in self._entries:
            raise BadInput(f"{self.info.path}: the folder holds no tensor {name}")
        entry = self._entries[name]
        if self.info.engine == "local":
            check_shape(self.info.path, name, entry.shape, self.config)
        if entry.file not in self._mapped:
            self._mapped[entry.file] = np.frombuffer(_map(entry.file), dtype=np.uint8)
        part = self._mapped[entry.file][entry.start : entry.start + entry.nbytes]
        return StoredTensor(name, entry.kind, entry.shape, part.reshape(entry.shape[0] if entry.shape else 1, -1))


def describe(folder: Path) -> ModelInfo:
    """What the headers of the files in `folder` say."""
    entries = entries_in(folder)
    return _info(folder, config_in(folder, entries), entries)


def _info(folder: Path, config: Mapping[str, Any], entries: Mapping[str, TensorEntry]) -> ModelInfo:
    tied = bool(config.get("tie_word_embeddings"))
    kept = {name: entry for name, entry in entries.items() if not (tied and name == "lm_head.weight")}
    embedding = kept.get("model.embed_tokens.weight")
    return replace(
        describe_config(folder, config),
        parameters=sum(prod(entry.shape) for entry in kept.values()),
        tensor_bytes=bytes_by_kind(kept.values()),
        matrix_bytes=bytes_by_kind(entry for name, entry in kept.items() if _in_layer(name, entry)),
        embedding_bytes=embedding.nbytes if embedding else 0,
    )


def _in_layer(name: str, entry: TensorEntry) -> bool:
    """Whether a tensor is a matrix of a layer; a gate of one row is none."""
    return ".layers." in name and len(entry.shape) > 1 and entry.shape[0] > 1


def entries_in(folder: Path) -> dict[str, TensorEntry]:
    """Every tensor of the model in `folder`, by its Hugging Face name."""
    files = _files(folder)
    entries: dict[str, TensorEntry] = {}
    for file in files:
        entries |= {_plain_name(name): entry for name, entry in read_header(file).items()}
    text = {name: entry for name, entry in entries.items() if not name.startswith(_NOT_TEXT)}
    if not text:
        raise BadInput(f"{folder}: the safetensors files hold no tensors")
    return text


# Multimodal checkpoints keep their language model under one of these; what sees pictures is left out.
_TEXT_PREFIXES = {
    "language_model.model.": "model.",
    "language_model.lm_head.": "lm_head.",
    "model.language_model.": "model.",
}
_NOT_TEXT = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")


def _plain_name(name: str) -> str:
    for prefix, plain in _TEXT_PREFIXES.items():
        if name.startswith(prefix):
            return plain + name.removeprefix(prefix)
    return name


def _files(folder: Path) -> list[Path]:
    """The safetensors files that make up the model; BadInput says what is there instead."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return _indexed(folder, read_json(index))
    found = sorted(folder.glob("*.safetensors"))
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if len(found) == 1:
        return found
    if found:
        raise BadInput(f"{folder}: {len(found)} safetensors files without a model.safetensors.index.json that joins them")
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in PICKLES)
    if pickles:
        raise BadInput(
            f"{folder}: {pickles[0]} is a pickle, and loading one runs whatever code it holds; convert the model to safetensors"
        )
    raise BadInput(f"{folder}: the folder holds no weights (model.safetensors or a .gguf file)")


def _indexed(folder: Path, index: Mapping[str, Any]) -> list[Path]:
    weights = index.get("weight_map")
    if not isinstance(weights, Mapping) or not weights:
        raise BadInput(f"{folder / 'model.safetensors.index.json'}: there is no weight_map")
    names = sorted({str(name) for name in weights.values()})
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise BadInput(f"{folder / 'model.safetensors.index.json'}: {name!r} is not a safetensors file beside it")
        if not (folder / name).is_file():
            raise BadInput(f"{folder}: {name} is missing, one of {len(names)} files of the model")
    return [folder / name for name in names]


def _map(file: Path) -> mmap.mmap:
    try:
        with file.open("rb") as opened:
            if opened.seek(0, 2) == 0:
                raise BadInput(f"{file}: the file is empty")
            return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise BadInput(f"{file}: cannot be read: {(error.strerror or str(error)).lower()}") from None


def read_header(file: Path) -> dict[str, TensorEntry]:
    """The tensors of a safetensors file; BadInput when it is damaged or of another kind."""
    with _map(file) as mapped:
        size, length = len(mapped), int.from_bytes(mapped[:8], "little")
        if size < 8 or length > min(size - 8, _MOST_HEADER_BYTES):
            raise BadInput(f"{file}: not a whole safetensors file: it is cut short, damaged or of another kind")
        text = mapped[8 : 8 + length]
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
