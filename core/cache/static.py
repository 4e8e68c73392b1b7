"""A cache in one buffer allocated before the run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from core.attention.mask import Reach
from core.cache.base import Buffers, Cache, KeyValues, Layout, Slots
from core.cache.table import StaticOptions
from core.errors import BadInput


class Static(Cache):
    """Slot i holds position i."""

    def __init__(self, options: StaticOptions, layout: Layout) -> None:
        super().__init__(options, layout)
        self._allocate(options.capacity or layout.tokens)

    def _allocate(self, capacity: int) -> None:
        self.buffers = Buffers(self.layout, capacity)
        self.positions = torch.arange(capacity)

    def update(self, layer: int, k: Tensor, v: Tensor) -> KeyValues:
        end = self.length + len(k)
        self._make_room(end)
        self.buffers.write(layer, self.length, k, v)
        return KeyValues(self.buffers.keys[layer][:, :end], self.buffers.values[layer][:, :end], self.positions[:end])

    def slots(self, rows: int, reaches: Sequence[Reach]) -> Slots | None:
        if self.layout.dtype == torch.float16:
            return None
        self._make_room(self.length + rows)
        return Slots(self.length, self.length, self.buffers, self.positions[: self.length + rows])

    def _make_room(self, needed: int) -> None:
        if needed > self.buffers.capacity:
            raise BadInput(
                f"cache.capacity: the static cache holds {self.buffers.capacity} tokens and the run needs {needed}; "
                "raise cache.capacity, or set it to 0 to take what the run needs"
            )

    def trim(self, length: int) -> None:
        self.length = min(self.length, length)

    @property
    def nbytes(self) -> int:
        return self.buffers.nbytes

    @property
    def tokens(self) -> int:
        return self.length
