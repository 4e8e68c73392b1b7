"""Each query and KV head chooses blocks of keys by a summary of each block, and attends over those blocks alone."""

from __future__ import annotations

import torch
from torch import Tensor

from core.attention.gathered import ROWS, Pick, joined, pick
from core.attention.mask import FULL, Reach
from core.attention.mechanism import Mechanism, Rows, Site, Store
from core.attention.showing import show
from core.attention.table import BlockTopkOptions
from core.cache.base import KeyValues


class BlockTopk(Mechanism):
    """Summaries of whole blocks are kept: the lowest and highest number in each dimension of its keys (Quest), or their mean
    (MoBA). Query heads that share a KV head choose together, by the sum of their scores.
    """

    def __init__(self, options: BlockTopkOptions, site: Site) -> None:
        super().__init__(site)
        self.block, self.blocks, self.bounds = options.block, options.blocks, options.scores == "bounds"
        self.sinks, self.local = options.sink_blocks, options.local_blocks
        self.own = Reach(0, site.window)
        width = site.head_size * (2 if self.bounds else 1)
        self.summaries = torch.zeros(site.kv_heads, site.capacity // self.block, width)
        self.whole = 0  # blocks summarized

    def attend(self, q: Tensor, k: Tensor, v: Tensor, store: Store, rows: Rows) -> Tensor:
        kv, held = store.update(k, v), self.own & store.reach
        first, end = int(rows.positions[0]), int(rows.positions[-1]) + 1
        slots = rows.once("slots", kv.positions, lambda: _slots(kv.positions, end, self.block))
        self._summarize(kv, slots, min(self.whole, first // self.block), end // self.block)
        if len(q) == 1 and held == FULL and len(kv.positions) == end:
            picks = [self._alone(q, slots, rows, kv)]
        else:
            parts = torch.split(torch.arange(len(q)), ROWS)
            picks = [self._pick(part, q[part], rows.positions[part], slots, held) for part in parts]
        y = joined(q, kv, [picks], self.site)
        show(q, kv, rows, self.site, held, lambda queries, positions: self._shown(queries, positions, kv, held))
        return y

    def _summarize(self, kv: KeyValues, slots: Tensor, first: int, last: int) -> None:
        """Of blocks `first` to `last` − 1, over those of their keys that the cache holds."""
        self.whole = last
        if last == first:
            return
        wanted = slots[first:last]  # [blocks, block]
        keys = kv.keys[:, wanted.clamp(min=0)].float()  # [G, blocks, block, D]
        there = (wanted >= 0)[None, :, :, None]
        low, high = (keys.masked_fill(~there, edge) for edge in (torch.inf, -torch.inf))
        means = keys.masked_fill(~there, 0).sum(2) / there.sum(2)
        found = torch.cat((low.amin(2), high.amax(2)), -1) if self.bounds else means
        self.summaries[:, first:last] = found.nan_to_num(0, 0, 0)

    def _chosen(self, q: Tensor, positions: Tensor, held: Reach) -> Tensor:
        """Which blocks each KV head sees: bool [G, T, blocks], up to the block of the last query."""
        own = positions // self.block  # [T]
        blocks = torch.arange(int(own[-1]) + 1)
        near, first = own[:, None] - blocks < self.local, blocks < self.sinks
        reached = held.allowed(positions, blocks * self.block) | held.allowed(positions, (blocks + 1) * self.block - 1)
        choice = reached & ~near & ~first  # [T, blocks]
        scores = self._scores(q, len(blocks)).masked_fill(~choice, -torch.inf)  # [G, T, blocks]
        best = scores.topk(min(self.blocks, len(blocks)), dim=-1, sorted=False).indices
        chosen = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, best, True)
        seen: Tensor = (chosen & choice) | ((near | first) & (blocks <= own[:, None]))
        return seen

    def _shown(self, q: Tensor, positions: Tensor, kv: KeyValues, held: Reach) -> Tensor:
        """Which keys that is: bool [G, T, S]."""
        return self._chosen(q, positions, held)[..., kv.positions // self.block]

    def _scores(self, q: Tensor, count: int) -> Tensor:
        """Of the first `count` blocks, for each KV head: [G, T, count]. The last one may not be whole, and is not chosen."""
        (T, H, D), G = q.shape, len(self.summaries)
        queries = q.float().transpose(0, 1).view(G, H // G, T, D)
        if self.bounds:
            queries = torch.cat((queries.clamp(max=0), queries.clamp(min=0)), -1)
        scores = queries.sum(1) @ self.summaries[:, :count].mT
        return torch.nn.functional.pad(scores, (0, count - scores.shape[2]))

    def _pick(self, rows: Tensor, q: Tensor, positions: Tensor, slots: Tensor, held: Reach) -> Pick:
        """The keys of the blocks that any of q [T, H, D] chose."""
        found = pick(rows, self._chosen(q, positions, held))
        assert found.slots is not None
        blocks = found.slots.expand(len(self.summaries), -1)  # [G, n]
        keys = (blocks[..., None] * self.block + torch.arange(self.block)).flatten(1)  # [G, n · block] positions
        places = slots[blocks].flatten(1)
        distances = held.allowed(positions, keys.flatten()).view(len(positions), *keys.shape).transpose(0, 1)  # [G, T, …]
        mask = distances & (places >= 0)[:, None]
        if found.mask is not None:
            mask = mask & found.mask[:, 0].repeat_interleave(self.block, -1)
        return Pick(rows, places.clamp(min=0), mask[:, None])

    def _alone(self, q: Tensor, slots: Tensor, rows: Rows, kv: KeyValues) -> Pick:
        """The same for one row over all that came before it, which is most of decoding: without a mask."""
        end = len(kv.positions)
        first, last = self.sinks, (end - 1) // self.block + 1 - self.local  # blocks it may choose
        if last - first <= self.blocks:
            return Pick(torch.arange(1), None, None)
        always = rows.once((self.block, first, last), kv.positions, lambda: self._always(slots, first, last, end))
        best = self._scores(q, last)[:, 0, first:].topk(self.blocks, dim=-1, sorted=False).indices + first  # [G, blocks]
        return Pick(torch.arange(1), torch.cat((always, slots[best].flatten(1)), 1), None)

    def _always(self, slots: Tensor, first: int, last: int, end: int) -> Tensor:
        """Slots [G, n] of the first and the most recent blocks."""
        places = slots.flatten()
        kept = torch.cat((places[: first * self.block], places[last * self.block : end]))
        return kept.expand(len(self.summaries), -1)

    def trim(self, length: int) -> None:
        self.whole = min(self.whole, length // self.block)

    @property
    def nbytes(self) -> int:
        return self.summaries.nbytes


def _slots(positions: Tensor, end: int, block: int) -> Tensor:
    """Where the keys of each block are: slots [blocks, block] of the positions before `end`, −1 where there is none."""
    slots = torch.full((-(-end // block) * block,), -1)
    slots[positions] = torch.arange(len(positions))
    return slots.view(-1, block)
