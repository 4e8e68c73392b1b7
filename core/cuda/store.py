"""Keys and values on a device, and what else a replayed step finds at a fixed address."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self
from weakref import ReferenceType, ref

import torch
from torch import Tensor

from core.cache.base import Layout
from core.cuda.kernels import MOST_ROWS
from core.decoder.rope import RopeTable
from core.decoder.traits import Rope

_SMALLEST = 128


def bucket(tokens: int) -> int:
    """The least of 128, 256, 512, … that holds `tokens`."""
    return max(_SMALLEST, 1 << (tokens - 1).bit_length())


class Store(ABC):
    """Room for `capacity` tokens of B sequences: keys and values of each layer [B, G, capacity, D].

    tokens [B, 8] and length [1] say what the next step is fed, and how many tokens each sequence holds; next [B, 8] is what it
    found likeliest. A pass begins, and each layer is entered before its keys are written and left when it has attended.
    steps: captured ones by what they were captured for, where the addresses of keys and values never change (`replayed`).
    """

    replayed: bool

    def __init__(self, layout: Layout, capacity: int, batch: int, ropes: Sequence[RopeTable], device: torch.device) -> None:
        self.layout, self.capacity = layout, capacity
        self.tokens, self.next = torch.zeros(2, batch, MOST_ROWS, dtype=torch.int64, device=device)
        self.length = torch.zeros(1, dtype=torch.int64, device=device)
        self.places = torch.arange(MOST_ROWS, device=device)
        self.ropes = {table.rope: _room(table.rope, capacity, device) for table in ropes}
        self.steps: dict[Any, Any] = {}
        self._owner: ReferenceType[Any] | None = None

    def begin(self, first: int, count: int) -> None:  # noqa: B027
        """A pass of `count` tokens from position `first` on comes."""

    def slots(self, end: int) -> int:
        """Slots that a step looks at whose last token is at `end` − 1: few different numbers, as kernels are made for them."""
        return min(bucket(end), self.capacity)

    @abstractmethod
    def enter(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values [B, G, capacity, D] of `layer` on the device, for rows to be written and read."""

    def leave(self, layer: int) -> None:  # noqa: B027
        """`layer` has attended."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes on the device for keys and values."""

    @property
    def offloaded(self) -> int:
        """Bytes of room for keys and values elsewhere."""
        return 0

    @abstractmethod
    def copy(self, other: Self, length: int) -> None:
        """Take over the first `length` tokens of another store of the same model."""

    @property
    def free(self) -> bool:
        return self._owner is None or self._owner() is None

    def take(self, owner: object, tables: Sequence[RopeTable], run: int) -> None:
        """Make it `owner`'s until that is gone, with rotations for a run of at most `run` tokens."""
        self._owner = ref(owner)
        for table in tables:
            table.reserve(self.capacity, run)
            for mine, its in zip(_pair(self.ropes[table.rope]), _pair(table), strict=True):
                mine.copy_(its[: self.capacity])

    def give_up(self) -> None:
        """Let another take it."""
        self._owner = None


class Resident(Store):
    """All on the device."""

    replayed = True

    def __init__(self, layout: Layout, capacity: int, batch: int, ropes: Sequence[RopeTable], device: torch.device) -> None:
        super().__init__(layout, capacity, batch, ropes, device)

        def slabs() -> list[Tensor]:
            shapes = ((batch, heads, capacity, layout.head_size) for heads in layout.kv_heads)
            return [torch.zeros(shape, dtype=layout.dtype, device=device) for shape in shapes]

        self.keys, self.values = slabs(), slabs()

    def enter(self, layer: int) -> tuple[Tensor, Tensor]:
        return self.keys[layer], self.values[layer]

    @property
    def nbytes(self) -> int:
        return sum(buffer.nbytes for buffer in (*self.keys, *self.values))

    def copy(self, other: Self, length: int) -> None:
        for mine, its in zip((*self.keys, *self.values), (*other.keys, *other.values), strict=True):
            mine[:, :, :length] = its[:, :, :length]


def _room(rope: Rope, positions: int, device: torch.device) -> RopeTable:
    return RopeTable(rope, *torch.empty(2, positions, rope.size // 2, device=device))


def _pair(table: RopeTable) -> tuple[Tensor, Tensor]:
    return table.cos, table.sin


class Stores:
    """Stores of one model; those with captured steps are kept for the next run."""

    def __init__(self, ropes: Sequence[RopeTable], device: torch.device) -> None:
        self.ropes, self.device = ropes, device
        self._kept: list[tuple[Layout, int, Store]] = []

    @torch.inference_mode()
    def take(self, owner: object, layout: Layout, capacity: int, batch: int = 1, kind: type[Store] = Resident) -> Store:
        """One of `capacity` tokens that nobody has, made where there is none."""
        shape = replace(layout, tokens=capacity)
        fitting = (kept for known, size, kept in self._kept if (known, size) == (shape, batch) and isinstance(kept, kind))
        store = next((kept for kept in fitting if kept.free), None)
        if store is None:
            store = kind(shape, capacity, batch, self.ropes, self.device)
            if store.replayed:
                self._kept.append((shape, batch, store))
        store.take(owner, self.ropes, layout.tokens)
        return store
