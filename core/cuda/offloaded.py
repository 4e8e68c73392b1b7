"""Keys and values in the host's memory, of which the layer at work and the next one are on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from core.cache.base import Layout
from core.cuda.copies import copies_on
from core.cuda.store import Store
from core.decoder.rope import RopeTable


class Offloaded(Store):
    """Two buffers take turns: while a layer attends in one, the next layer is fetched into the other.

    On either side a layer lies as [capacity, 2, B, G, D], keys and values of a token together, so that the tokens held are one
    run of memory. What a pass adds goes back to the host when its layer has attended. The first layer of the next pass is
    fetched at the end of a pass.
    """

    replayed = False  # what is copied depends on how many tokens are held

    def __init__(self, layout: Layout, capacity: int, batch: int, ropes: Sequence[RopeTable], device: torch.device) -> None:
        super().__init__(layout, capacity, batch, ropes, device)
        shapes = [(capacity, 2, batch, heads, layout.head_size) for heads in layout.kv_heads]
        pinned = device.type == "cuda"
        self.host = [torch.empty(shape, dtype=layout.dtype, pin_memory=pinned) for shape in shapes]
        self.buffers = torch.zeros(2, max(map(torch.Tensor.numel, self.host)), dtype=layout.dtype, device=device)
        self.copies = copies_on(device, self.buffers)
        self._fetched, self._done = [self.copies.now()] * 2, [self.copies.now()] * 2  # marks of each buffer
        self._at = 0  # the buffer of the layer at work
        self._ahead = 0  # tokens of the first layer that were fetched into the other buffer
        self._first = self._end = 0  # positions of the pass

    def begin(self, first: int, count: int) -> None:
        self._first, self._end = first, first + count
        if self._ahead < first:
            self._fetch(0, first)

    def enter(self, layer: int) -> tuple[Tensor, Tensor]:
        self._at = 1 - self._at
        self.copies.wait(self._fetched[self._at])
        if layer + 1 < len(self.host):
            self._fetch(layer + 1, self._first)
        keys, values = self._buffer(self._at, layer).permute(1, 2, 3, 0, 4)
        return keys, values

    def leave(self, layer: int) -> None:
        new, done = slice(self._first, self._end), self.copies.now()
        self._done[self._at] = done
        self.copies.copy(self.host[layer][new], self._buffer(self._at, layer)[new], done)
        if layer + 1 == len(self.host):
            self._fetch(0, self._end)
            self._ahead = self._end

    def _fetch(self, layer: int, length: int) -> None:
        """Bring the first `length` tokens of `layer` into the other buffer, once the layer in it is done."""
        into = 1 - self._at
        source = self.host[layer][:length]
        self._fetched[into] = self.copies.copy(self._buffer(into, layer)[:length], source, self._done[into])

    def _buffer(self, which: int, layer: int) -> Tensor:
        """[capacity, 2, B, G, D]."""
        like = self.host[layer]
        return self.buffers[which, : like.numel()].view(like.shape)

    @property
    def nbytes(self) -> int:
        return self.buffers.nbytes

    @property
    def offloaded(self) -> int:
        return sum(part.nbytes for part in self.host)

    def copy(self, other: Self, length: int) -> None:
        other.copies.settle()
        for mine, its in zip(self.host, other.host, strict=True):
            mine[:length] = its[:length]
