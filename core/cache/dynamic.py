"""A cache that grows with the sequence."""

from __future__ import annotations

import torch

from core.cache.base import Cache, Layout
from core.cache.static import Static
from core.technique import NoOptions

_FIRST_CAPACITY = 256


class Dynamic(Static):
    """Like the static cache, but its buffers double when they are full, so that appending is O(1) on average."""

    def __init__(self, options: NoOptions, layout: Layout) -> None:
        Cache.__init__(self, options, layout)
        self._allocate(_FIRST_CAPACITY)

    def _make_room(self, needed: int) -> None:
        if needed > self.buffers.capacity:
            wanted = max(needed, 2 * self.buffers.capacity)
            # Copying again for the run's last tokens would cost more than the room that they take.
            self.buffers.resize(self.layout.tokens if needed <= self.layout.tokens <= 2 * needed else wanted)
            self.positions = torch.arange(self.buffers.capacity)
