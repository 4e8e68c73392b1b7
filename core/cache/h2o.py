"""A cache of heavy hitters: the tokens that got the most attention, and the most recent ones, in each head (H2O)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from core.cache.base import Buffers, Cache, Held, KeyValues, Layout, Weigh
from core.cache.shares import of_all
from core.cache.table import H2OOptions
from core.errors import RunFailed

_MOST_AT_ONCE = 32  # tokens that an eviction makes room for


class H2O(Cache):
    """Every KV head holds `budget` tokens at most, in the order of their positions.

    The attention weights that each token got, from all rows and query heads that share the KV head, add up. Room is made for
    `stride` tokens at once, whenever a position is a multiple of it: the `recent` last tokens stay, and of the others those
    with the highest sums. So rows between two such positions see the same, in passes of any size.
    """

    rewindable = False
    observes = by_head = True
    drops = "it had got the least attention"

    def __init__(self, options: H2OOptions, layout: Layout) -> None:
        super().__init__(options, layout)
        self.budget = max(2, of_all(options.budget, layout.tokens))
        self.recent = min(self.budget - 1, of_all(options.recent, self.budget) if options.recent else 0)
        self.stride = max(1, min(_MOST_AT_ONCE, (self.budget - self.recent) // 4))
        capacity = min(self.budget, layout.tokens)
        self.buffers = Buffers(layout, capacity)
        self.positions = [torch.zeros(heads, capacity, dtype=torch.long) for heads in layout.kv_heads]
        self.sums = [torch.zeros(heads, capacity) for heads in layout.kv_heads]  # attention weights
        self.counts = [0] * len(layout.kv_heads)
        self.fed = [0] * len(layout.kv_heads)  # by layer, ahead of `length` within a pass

    def parts(self, rows: int) -> Sequence[slice]:
        cuts = range(self.length - self.length % self.stride, self.length + rows + self.stride, self.stride)
        edges = [min(max(cut - self.length, 0), rows) for cut in cuts]
        return [slice(a, b) for a, b in pairwise(edges) if b > a]

    def update(self, layer: int, k: Tensor, v: Tensor) -> KeyValues:
        if self.fed[layer] % self.stride == 0 and self.counts[layer] > self.budget - self.stride:
            self._evict(layer)
        start, end = self.counts[layer], self.counts[layer] + len(k)
        self.buffers.write(layer, start, k, v)
        self.positions[layer][:, start:end] = torch.arange(self.fed[layer], self.fed[layer] + len(k))
        self.sums[layer][:, start:end] = 0
        self.counts[layer], self.fed[layer] = end, self.fed[layer] + len(k)
        keys, values = self.buffers.keys[layer], self.buffers.values[layer]
        return KeyValues(keys[:, :end], values[:, :end], self.positions[layer][:, :end])

    def observe(self, layer: int, q: Tensor, kv: KeyValues, positions: Tensor, weigh: Weigh) -> None:
        got = weigh(q, kv, positions).sum(1)  # [H, S]
        self.sums[layer][:, : got.shape[1]] += got.view(len(kv.keys), -1, got.shape[1]).sum(1)

    def _evict(self, layer: int) -> None:
        """Keep budget − stride tokens in each head."""
        held = self.counts[layer]
        others = held - self.recent
        best = self.sums[layer][:, :others].topk(self.budget - self.stride - self.recent).indices.sort().values
        kept = torch.cat((best, torch.arange(others, held).expand(len(best), -1)), dim=1)  # [G, kept]
        for part in (self.positions[layer], self.sums[layer]):
            part[:, : kept.shape[1]] = part.gather(1, kept)
        for part in (self.buffers.keys[layer], self.buffers.values[layer]):
            part[:, : kept.shape[1]] = part.gather(1, kept[..., None].expand(-1, -1, part.shape[-1]))
        self.counts[layer] = kept.shape[1]

    def trim(self, length: int) -> None:
        if length < self.length:
            raise RunFailed("the h2o cache cannot rewind: the tokens it evicted are gone; use cache.name=dynamic")

    def held(self) -> Held:
        return Held.by_head([part[:, : self.tokens] for part in self.positions], self.number_bits)

    @property
    def nbytes(self) -> int:
        return self.buffers.nbytes

    @property
    def tokens(self) -> int:
        return max(self.counts)
