"""A cache of the most recent tokens only, in a ring of fixed size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from core.attention.mask import Reach
from core.cache.base import Buffers, Cache, Held, KeyValues, Layout, Slots
from core.cache.table import RollingOptions, SinksOptions
from core.errors import RunFailed


class Rolling(Cache):
    """Position p lives in slot p mod window, after the slots of the first tokens where `sinks` of them are kept.

    Evicted tokens are gone, so a rewind is impossible.
    """

    rewindable = False
    sinks = 0
    drops = "a newer token took its slot"

    def __init__(self, options: RollingOptions | SinksOptions, layout: Layout) -> None:
        super().__init__(options, layout)
        self.window, self.size = options.window, self.sinks + options.window
        self.reach = Reach(self.sinks, self.window)
        self.buffers = Buffers(layout, self.size)
        self.positions = torch.full((self.size,), -1)  # of each slot; −1 is empty

    def update(self, layer: int, k: Tensor, v: Tensor) -> KeyValues:
        new = torch.arange(self.length, self.length + len(k))
        if len(k) == 1:
            return self._append(layer, k, v, new)
        # A chunk's first queries still see tokens that its last ones evict: attend over old and new, then keep the newest.
        held = self._held(self.length)
        keys, values = (
            torch.cat((part, fed.transpose(0, 1).to(self.layout.dtype)), dim=1)
            for part, fed in zip(self._read(layer, self._slot(held)), (k, v), strict=True)
        )
        kept = self._held(self.length + len(k))
        kept = kept[kept >= self.length]
        for buffer, part in ((self.buffers.keys, keys), (self.buffers.values, values)):
            buffer[layer][:, self._slot(kept)] = part[:, len(held) + kept - self.length]
        return KeyValues(keys, values, torch.cat((held, new)))

    def _read(self, layer: int, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [G, S, D] of `slots` [S]."""
        return self.buffers.keys[layer][:, slots], self.buffers.values[layer][:, slots]

    def _append(self, layer: int, k: Tensor, v: Tensor, new: Tensor) -> KeyValues:
        slot = int(self._slot(new))
        self.buffers.write(layer, slot, k, v)
        filled = min(self.length + 1, self.size)
        self.positions[slot] = new[0]
        return KeyValues(self.buffers.keys[layer][:, :filled], self.buffers.values[layer][:, :filled], self.positions[:filled])

    def slots(self, rows: int, reaches: Sequence[Reach]) -> Slots | None:
        if rows > 1 or any(self._hides(reach) for reach in reaches) or self.layout.dtype == torch.float16:
            return None
        first, end = int(self._slot(torch.tensor(self.length))), min(self.length, self.size - 1)
        positions = self.positions[: end + 1].clone()
        positions[first] = self.length
        return Slots(first, end, self.buffers, positions)

    def _hides(self, reach: Reach) -> bool:
        """Whether `reach` ends before what is held does."""
        if reach.window is None:
            return False
        return reach.window < self.window or reach.sinks < self.sinks or reach.sink_reach is not None

    def advance(self, count: int) -> None:
        super().advance(count)
        held = self._held(self.length)
        self.positions[self._slot(held)] = held

    def trim(self, length: int) -> None:
        if length < self.length:
            raise RunFailed("the cache cannot rewind: the tokens it evicted are gone; use cache.name=dynamic")

    def _slot(self, positions: Tensor) -> Tensor:
        return torch.where(positions < self.sinks, positions, self.sinks + (positions - self.sinks) % self.window)

    def _held(self, length: int) -> Tensor:
        """Positions still held after `length` tokens, in order."""
        sinks = min(self.sinks, length)
        return torch.cat((torch.arange(sinks), torch.arange(max(sinks, length - self.window), length)))

    def held(self) -> Held:
        return Held.alike(self.positions[: self.tokens], self.number_bits)

    @property
    def nbytes(self) -> int:
        return self.buffers.nbytes

    @property
    def tokens(self) -> int:
        return min(self.length, self.size)
