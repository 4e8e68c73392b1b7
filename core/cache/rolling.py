"""A cache of the most recent tokens only, in a ring of fixed size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from core.attention.mask import Reach
from core.cache.base import Buffers, Cache, KeyValues, Layout, Slots
from core.cache.table import RollingOptions
from core.errors import RunFailed


class Rolling(Cache):
    """Position p lives in slot p mod window. Evicted tokens are gone, so a rewind is impossible."""

    rewindable = False

    def __init__(self, options: RollingOptions, layout: Layout) -> None:
        super().__init__(options, layout)
        self.window = options.window
        self.reach = Reach(0, self.window)
        self.buffers = Buffers(layout, self.window)
        self.positions = torch.full((self.window,), -1)  # of each slot; −1 is empty

    def update(self, layer: int, k: Tensor, v: Tensor) -> KeyValues:
        new = torch.arange(self.length, self.length + len(k))
        if len(k) == 1:
            return self._append(layer, k, v, new)
        # A chunk's first queries still see tokens that its last ones evict: attend over old and new, then keep the newest.
        held = self._held(self.length)
        keys = torch.cat((self.buffers.keys[layer][:, held % self.window], k.transpose(0, 1).to(self.layout.dtype)), dim=1)
        values = torch.cat((self.buffers.values[layer][:, held % self.window], v.transpose(0, 1).to(self.layout.dtype)), dim=1)
        kept = new[-self.window :]
        self.buffers.keys[layer][:, kept % self.window] = keys[:, -len(kept) :]
        self.buffers.values[layer][:, kept % self.window] = values[:, -len(kept) :]
        return KeyValues(keys, values, torch.cat((held, new)))

    def _append(self, layer: int, k: Tensor, v: Tensor, new: Tensor) -> KeyValues:
        self.buffers.write(layer, self.length % self.window, k, v)
        filled = min(self.length + 1, self.window)
        self.positions[self.length % self.window] = new[0]
        return KeyValues(self.buffers.keys[layer][:, :filled], self.buffers.values[layer][:, :filled], self.positions[:filled])

    def slots(self, rows: int, reaches: Sequence[Reach]) -> Slots | None:
        narrower = any(reach.window is not None and reach.window < self.window for reach in reaches)
        if rows > 1 or narrower or self.layout.dtype == torch.float16:
            return None
        first, end = self.length % self.window, min(self.length, self.window - 1)
        positions = self.positions[: end + 1].clone()
        positions[first] = self.length
        return Slots(first, end, self.buffers, positions)

    def advance(self, count: int) -> None:
        super().advance(count)
        held = self._held(self.length)
        self.positions[held % self.window] = held

    def trim(self, length: int) -> None:
        if length < self.length:
            raise RunFailed("the rolling cache cannot rewind: the tokens it evicted are gone; use cache.name=dynamic")

    def _held(self, length: int) -> Tensor:
        """Positions still in the ring after `length` tokens."""
        return torch.arange(max(0, length - self.window), length)

    @property
    def nbytes(self) -> int:
        return self.buffers.nbytes

    @property
    def tokens(self) -> int:
        return min(self.length, self.window)
