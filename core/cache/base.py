"""The one interface of KV caches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.attention.mask import FULL, Reach
from core.attention.softmax import KeyValues


@dataclass(frozen=True)
class Layout:
    """What a cache must hold: KV heads of each layer, D, the most tokens of the run, and the number format."""

    kv_heads: tuple[int, ...]
    head_size: int
    tokens: int
    dtype: torch.dtype


@dataclass(frozen=True)
class Slots:
    """Where compiled attention finds keys and values. New rows go to slots first, first + 1, …; row r sees up to end + r.

    positions: of every slot that the last row sees.
    """

    first: int
    end: int
    buffers: Buffers
    positions: Tensor


class Cache(ABC):
    """Keys and values of earlier tokens, layer by layer.

    A pass calls `update` once for each layer and then `advance`. rewindable: whether `trim` can undo.
    """

    rewindable = True
    reach: Reach = FULL  # what the cache's own policy lets a query see

    def __init__(self, options: Any, layout: Layout) -> None:
        self.layout = layout
        self.length = 0  # tokens seen: the position of the next one

    @abstractmethod
    def update(self, layer: int, k: Tensor, v: Tensor) -> KeyValues:
        """Take k and v [T, G, D] of the next T tokens; what their queries may look at."""

    def slots(self, rows: int, reaches: Sequence[Reach]) -> Slots | None:
        """Room for the next `rows` tokens in plain buffers, for compiled attention; None where the policy needs more."""
        return None

    def advance(self, count: int) -> None:
        """The pass is over: `count` tokens were added to every layer."""
        self.length += count

    @abstractmethod
    def trim(self, length: int) -> None:
        """Forget all but the first `length` tokens."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes allocated for keys and values."""

    @property
    @abstractmethod
    def tokens(self) -> int:
        """Tokens whose keys and values are held."""


class Buffers:
    """Keys and values of L layers, [G, capacity, D] each; layers may differ in G."""

    def __init__(self, layout: Layout, capacity: int) -> None:
        shapes = [(heads, capacity, layout.head_size) for heads in layout.kv_heads]
        self.keys = [_zeros(shape, layout.dtype) for shape in shapes]
        self.values = [_zeros(shape, layout.dtype) for shape in shapes]
        self.capacity = capacity

    def write(self, layer: int, start: int, k: Tensor, v: Tensor) -> None:
        """Put k and v [T, G, D] into slots start … start + T − 1."""
        end = start + len(k)
        self.keys[layer][:, start:end] = k.transpose(0, 1)
        self.values[layer][:, start:end] = v.transpose(0, 1)

    def grow(self, capacity: int) -> None:
        """Enlarge to `capacity` slots, keeping what is there."""
        for buffers in (self.keys, self.values):
            for layer, old in enumerate(buffers):
                new = old.new_zeros(old.shape[0], capacity, old.shape[2])
                new[:, : self.capacity] = old
                buffers[layer] = new
        self.capacity = capacity

    @property
    def like(self) -> np.ndarray:
        """An empty array of the element type that compiled code sees: bfloat16 as uint16."""
        return np.empty(0, np.float32 if self.keys[0].dtype == torch.float32 else np.uint16)

    def addresses(self, layer: int) -> tuple[int, int]:
        """Of the keys and of the values of `layer`."""
        return self.keys[layer].data_ptr(), self.values[layer].data_ptr()

    @property
    def nbytes(self) -> int:
        return sum(buffer.nbytes for buffer in (*self.keys, *self.values))


def _zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """As torch.zeros, from pages the system hands out as zeros: filling them by torch's threads delays the first token."""
    return torch.from_numpy(np.zeros(prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(shape)
