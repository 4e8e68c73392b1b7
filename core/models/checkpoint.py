"""A checkpoint on disk: its configuration, and its tensors in the format that the file stores them in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from core.errors import BadInput
from core.models.info import ModelInfo

if TYPE_CHECKING:
    import torch

RowIndex = slice | Sequence[int] | np.ndarray
_DEQUANTIZED_AT_ONCE = 2**18  # bytes of blocks: enough for NumPy to be quick, and few enough to stay in the cache


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as stored. Rows run along the first axis; a vector has one value a row.

    kind: `F32`, `F16`, `BF16`, or a GGUF quantized type (`Q4_1`, `Q8_0`, …). shape: logical, [out, in] for a matrix.
    blocks: uint8 [rows, bytes a row], a view of the mapped file; read-only.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    blocks: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.blocks.nbytes

    def rows(self, index: RowIndex) -> StoredTensor:
        """The chosen rows in the same format: a view for a slice, else a copy of their bytes."""
        blocks = self.blocks[index]
        return StoredTensor(self.name, self.kind, (len(blocks), *self.shape[1:]), blocks)

    def dense(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """A fresh tensor with the exact stored values, float32 unless `dtype` says otherwise.

        Raises BadInput for a number format that has no reader.
        """
        import torch

        if self.kind in _PLAIN:
            values = torch.from_numpy(np.array(self.blocks).reshape(-1)).view(getattr(torch, _PLAIN[self.kind]))
        else:
            values = torch.from_numpy(_dequantized(self.name, self.kind, np.ascontiguousarray(self.blocks).reshape(-1)))
        return values.to(dtype or torch.float32).reshape(self.shape)


_PLAIN = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


def _dequantized(name: str, kind: str, blocks: np.ndarray) -> np.ndarray:
    """blocks uint8 [bytes] to float32 [values]."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    if kind not in GGMLQuantizationType.__members__:
        raise BadInput(f"tensor {name} is stored as {kind}, which has no reader here; convert the model to BF16, F16 or F32")
    type_ = GGMLQuantizationType[kind]
    values, size = GGML_QUANT_SIZES[type_]
    out = np.empty(blocks.size // size * values, dtype=np.float32)
    step = _DEQUANTIZED_AT_ONCE // size
    for first in range(0, blocks.size // size, step):
        part = blocks[first * size : (first + step) * size]
        out[first * values : (first + step) * values] = dequantize(part.reshape(1, -1), type_).reshape(-1)
    return out


class Checkpoint(ABC):
    """A model's weights under their Hugging Face names, whatever file they come from."""

    info: ModelInfo
    config: dict[str, Any]  # as a Hugging Face config.json holds it

    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names such as `model.layers.0.self_attn.q_proj.weight`; no `lm_head.weight` where the head is tied."""

    @abstractmethod
    def tensor(self, name: str) -> StoredTensor:
        """The tensor called `name`; BadInput when the checkpoint lacks it or its type cannot be read."""


class Sized(Protocol):
    """A tensor's entry in a file's header."""

    @property
    def kind(self) -> str: ...

    @property
    def nbytes(self) -> int: ...


def bytes_by_kind(entries: Iterable[Sized]) -> dict[str, int]:
    """Stored type to bytes."""
    sizes: Counter[str] = Counter()
    for entry in entries:
        sizes[entry.kind] += entry.nbytes
    return dict(sizes)


def vector(name: str, values: np.ndarray) -> StoredTensor:
    """A stored float32 vector made of computed values, such as a norm with an offset undone."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    return StoredTensor(name, "F32", values.shape, values.view(np.uint8).reshape(len(values), -1))
