"""A GGUF file as a checkpoint: Hugging Face names and row order, quantized codes as they are in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from core.decoder.architectures import LOCAL_ARCHITECTURES
from core.errors import BadInput
from core.models.checkpoint import Checkpoint, StoredTensor, bytes_by_kind, vector
from core.models.gguf_config import Metadata, config_of, model_type
from core.models.gguf_header import READABLE, Header, TensorEntry, read_header
from core.models.gguf_names import IN_CONFIG, expert_names, hugging_face_name
from core.models.info import ModelInfo
from core.models.shapes import check_shape
from core.models.sliding import sliding_windows

# The converter reorders rows of Q and K for these, since llama.cpp rotates neighbouring values where transformers
# rotates the two halves of a head.
_PERMUTED = frozenset({"llama", "mistral", "mixtral", "granite", "smollm3"})
_NORMS_PLUS_ONE = frozenset({"gemma2", "gemma3_text"})


class GgufCheckpoint(Checkpoint):
    """The weights of `path`; BadInput when the local decoder does not know the architecture or a tensor is out of place."""

    def __init__(self, path: Path) -> None:
        header = read_header(path)
        self._header = header
        self.info = describe_header(header)
        if self.info.architecture not in LOCAL_ARCHITECTURES:
            raise BadInput(f"{path}: architecture {self.info.architecture} runs with engine.name=transformers only")
        self.config = config_of(header)
        self._places = _places(header, self.info)

    def names(self) -> tuple[str, ...]:
        return tuple(self._places)

    def tensor(self, name: str) -> StoredTensor:
        if name not in self._places:
            raise BadInput(f"{self.info.path}: the file holds no tensor for {name}")
        place = self._places[name]
        if place.entry.kind not in READABLE:
            known = ", ".join(READABLE)
            raise BadInput(f"{self.info.path}: tensor {place.entry.name} is stored as {place.entry.kind}; readable are {known}")
        tensor = _restored(_stored(self._header, name, place), self.config)
        check_shape(self.info.path, name, tensor.shape, self.config)
        return tensor


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies: in `entry`, or at `expert` of the stack that `entry` is."""

    entry: TensorEntry
    expert: int | None = None


def describe(path: Path) -> ModelInfo:
    """What the header of the GGUF file at `path` says."""
    return describe_header(read_header(path))


def describe_header(header: Header) -> ModelInfo:
    metadata = Metadata(header)
    kind = model_type(metadata)
    local = kind in LOCAL_ARCHITECTURES
    config = config_of(header) if local else _unknown_config(metadata)
    heads = config["num_attention_heads"]
    template = header.metadata.get("tokenizer.chat_template")
    embedding = header.tensors.get("token_embd.weight")
    return ModelInfo(
        name=header.path.stem,  # what a person knows it by; general.name is often no name at all
        path=str(header.path.absolute()),
        format="gguf",
        architecture=kind,
        engine="local" if local else "transformers",
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        query_heads=heads,
        kv_heads=config["num_key_value_heads"],
        head_size=config["head_dim"],
        ffn_width=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        context=config["max_position_embeddings"],
        parameters=sum(prod(entry.shape) for name, entry in header.tensors.items() if name not in IN_CONFIG),
        tensor_bytes=bytes_by_kind(header.tensors.values()),
        matrix_bytes=bytes_by_kind(entry for entry in header.tensors.values() if _in_layer(entry)),
        embedding_bytes=embedding.nbytes if embedding else 0,
        tied_head="output.weight" not in header.tensors,
        experts=config.get("num_local_experts") or config.get("num_experts") or 0,
        experts_used=config.get("num_experts_per_tok", 0),
        sliding_window=config.get("sliding_window") or 0,
        sliding_windows=sliding_windows(config) if local else (),
        chat_template=template if isinstance(template, str) else None,
    )


def _in_layer(entry: TensorEntry) -> bool:
    return entry.name.startswith("blk.") and len(entry.shape) > 1


def _unknown_config(metadata: Metadata) -> dict[str, Any]:
    """The sizes that files of nearly every architecture give; 0 where this one does not."""
    heads, width = metadata.whole("attention.head_count", 0), metadata.whole("embedding_length", 0)
    embedding = metadata.header.tensors.get("token_embd.weight")
    return {
        "num_hidden_layers": metadata.whole("block_count", 0),
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.whole("attention.head_count_kv", heads),
        "head_dim": metadata.whole("attention.key_length", width // heads if heads else 0),
        "intermediate_size": metadata.whole("feed_forward_length", 0),
        "vocab_size": embedding.shape[0] if embedding else 0,
        "max_position_embeddings": metadata.whole("context_length", 0),
    }


def _places(header: Header, info: ModelInfo) -> dict[str, _Place]:
    places: dict[str, _Place] = {}
    for entry in header.tensors.values():
        places |= _places_of(header, entry, info)
    return places


def _places_of(header: Header, entry: TensorEntry, info: ModelInfo) -> dict[str, _Place]:
    experts = expert_names(info.architecture, entry.name, info.experts)
    if experts is not None:
        stacked = len(entry.shape) == 3
        if stacked and entry.shape[0] != info.experts:
            raise BadInput(
                f"{header.path}: tensor {entry.name} holds {entry.shape[0]} experts, but the metadata says {info.experts}"
            )
        return {name: _Place(entry, expert if stacked else None) for name, expert in experts.items()}
    name = hugging_face_name(info.architecture, entry.name)
    if name is None and entry.name not in IN_CONFIG:
        raise BadInput(f"{header.path}: a {info.architecture} model has no tensor {entry.name}")
    return {} if name is None else {name: _Place(entry)}


def _stored(header: Header, name: str, place: _Place) -> StoredTensor:
    entry = place.entry
    start, nbytes, shape = entry.start, entry.nbytes, entry.shape
    if place.expert is not None:
        nbytes, shape = nbytes // shape[0], shape[1:]
        start += place.expert * nbytes
    blocks = header.mapped[start : start + nbytes].reshape(shape[0], -1)
    return StoredTensor(name, entry.kind, shape, blocks)


def _restored(tensor: StoredTensor, config: Mapping[str, Any]) -> StoredTensor:
    """Undo what the converter did to a checkpoint's tensor, without touching quantized codes."""
    kind, part = config["model_type"], tensor.name.rpartition(".")[0]
    if kind in _PERMUTED and part.endswith(("q_proj", "k_proj")):
        heads = config["num_attention_heads"] if part.endswith("q_proj") else config["num_key_value_heads"]
        return tensor.rows(_halves_order(tensor, heads))
    if kind in _NORMS_PLUS_ONE and part.endswith("norm"):
        return vector(tensor.name, tensor.dense().numpy() - np.float32(1))
    if part.endswith("shared_expert_gate") and len(tensor.shape) == 1:
        return StoredTensor(tensor.name, tensor.kind, (1, *tensor.shape), tensor.blocks.reshape(1, -1))
    return tensor


def _halves_order(tensor: StoredTensor, heads: int) -> np.ndarray:
    """Rows of interleaved pairs to rows with the first halves of all pairs before the second ones, head by head."""
    rows = tensor.shape[0]
    if rows % (2 * heads):
        raise BadInput(f"tensor {tensor.name} has {rows} rows, which {heads} heads cannot share")
    return np.arange(rows).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)
