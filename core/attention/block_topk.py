"""Each query and KV head chooses blocks of keys by a summary of each block, and attends over those blocks alone."""

from __future__ import annotations

import torch
from torch import Tensor

from core.attention.biased import HIDDEN, attend_biased, is_biased
from core.attention.gathered import ROWS, Pick, joined, pick
from core.attention.mask import FULL
from core.attention.mechanism import Blocks, Rows, Site
from core.attention.selective import Look, Selective
from core.attention.table import BlockTopkOptions
from core.errors import RunFailed


class BlockTopk(Selective):
    """Summaries of whole blocks are kept: the lowest and highest number in each dimension of its keys (Quest), or their mean
    (MoBA). Query heads that share a KV head choose together, by the sum of their scores.
    """

    def __init__(self, options: BlockTopkOptions, site: Site) -> None:
        super().__init__(site)
        self.block, self.best, self.bounds = options.block, options.blocks, options.scores == "bounds"
        self.sinks, self.local = options.sink_blocks, options.local_blocks
        width = site.head_size * (2 if self.bounds else 1)
        self.summaries = torch.zeros(site.kv_heads, site.capacity // self.block, width)
        self.recent = torch.zeros(0, site.kv_heads, site.head_size)  # keys from the block on in which the last pass began
        self.start = 0  # position of the first of them
        self.cached: Tensor | None = None  # where they are in their place, after a compiled pass
        if self._own == FULL:
            self.chooses = Blocks(self.summaries, self.block, self.best, self.sinks, self.local, self.bounds)

    def take(self, k: Tensor, positions: Tensor) -> None:
        """Summarize the blocks that become whole. What a rejected draft has summarized is written again."""
        first, end = int(positions[0]), int(positions[-1]) + 1
        keys = torch.cat((self._before(first), k.float())) if first else k.float()
        start = min(self.start, first)
        whole = end // self.block - start // self.block
        if whole > 0:
            blocks = keys[: whole * self.block].view(whole, self.block, *k.shape[1:]).transpose(0, 2)  # [G, block, blocks, D]
            found = torch.cat((blocks.amin(1), blocks.amax(1)), -1) if self.bounds else blocks.mean(1)
            self.summaries[:, start // self.block : end // self.block] = found
        self.start = first - first % self.block
        self.recent, self.cached = keys[self.start - start :], None

    def _before(self, first: int) -> Tensor:
        """The keys [T, G, D] from `start` on and before position `first`."""
        if self.cached is None:
            return self.recent[: max(0, first - self.start)]
        return self.cached[:, self.start : first].transpose(0, 1).float()

    def follow(self, keys: Tensor, first: int) -> None:
        self.start, self.cached = first - first % self.block, keys

    def attended(self, look: Look, rows: Rows) -> Tensor:
        if len(look.q) == 1 and look.plain:
            return joined(look, [[self._alone(look, rows)]], self.site)
        parts = torch.split(torch.arange(len(look.q)), ROWS)
        if is_biased(look, self.site):
            return torch.cat([self._biased(look.part(part)) for part in parts])
        return joined(look, [[self._pick(part, look.part(part)) for part in parts]], self.site)

    def _biased(self, look: Look) -> Tensor:
        chosen, end = self._chosen(look), len(look.kv.positions)
        hidden = torch.zeros(chosen.shape, dtype=look.kv.keys.dtype).masked_fill_(~chosen, HIDDEN)
        bias = hidden.repeat_interleave(self.block, 2)[:, None, :, :end].repeat(1, look.q.shape[1] // len(hidden), 1, 1)
        return attend_biased(look, bias, 0, self.site)

    def seen(self, look: Look) -> Tensor:
        """Bool [G, T, S]."""
        chosen = self._chosen(look)
        places = (look.kv.positions // self.block).clamp(max=chosen.shape[-1] - 1)  # later keys are not reached
        if places.ndim == 1:
            return chosen[..., places]
        return chosen.gather(2, places[:, None].expand(-1, len(look.q), -1))

    def _pick(self, rows: Tensor, look: Look) -> Pick:
        return pick(rows, self.seen(look) & look.reached)

    def _chosen(self, look: Look) -> Tensor:
        """Which blocks each KV head sees: bool [G, T, blocks], up to the block of the last query."""
        positions, held = look.positions, look.held
        own = positions // self.block  # [T]
        blocks = torch.arange(int(own[-1]) + 1)
        near, first = own[:, None] - blocks < self.local, blocks < self.sinks
        reached = held.allowed(positions, blocks * self.block) | held.allowed(positions, (blocks + 1) * self.block - 1)
        choice = reached & ~near & ~first  # [T, blocks]
        scores = self._scores(look.q, len(blocks)).masked_fill(~choice, -torch.inf)  # [G, T, blocks]
        best = scores.topk(min(self.best, len(blocks)), dim=-1, sorted=False).indices
        chosen = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, best, True)
        seen: Tensor = (chosen & choice) | ((near | first) & (blocks <= own[:, None]))
        return seen

    def _scores(self, q: Tensor, count: int) -> Tensor:
        """Of the first `count` blocks, for each KV head: [G, T, count]. The last one may not be whole, and is not chosen."""
        (T, H, D), G = q.shape, len(self.summaries)
        queries = q.float().transpose(0, 1).view(G, H // G, T, D)
        if self.bounds:
            queries = torch.cat((queries.clamp(max=0), queries.clamp(min=0)), -1)
        scores = queries.sum(1) @ self.summaries[:, :count].mT
        return torch.nn.functional.pad(scores, (0, count - scores.shape[2]))

    def _alone(self, look: Look, rows: Rows) -> Pick:
        """The same for one row over all that came before it, which is most of decoding: without a mask."""
        end = int(look.positions[0]) + 1
        first, last = self.sinks, (end - 1) // self.block + 1 - self.local  # blocks it may choose
        if last - first <= self.best:
            return Pick(torch.arange(1), None, None)
        blocks, always = rows.once((self.block, first, last), look.kv.positions, lambda: self._slots(look, first, last, end))
        best = self._scores(look.q, last)[:, 0, first:].topk(self.best, dim=-1, sorted=False).indices + first  # [G, blocks]
        return Pick(torch.arange(1), torch.cat((always, blocks[best].flatten(1)), 1), None)

    def _slots(self, look: Look, first: int, last: int, end: int) -> tuple[Tensor, Tensor]:
        """Slots [blocks, block] of each block, and [G, n] of the first and the most recent ones."""
        places = torch.empty(-(-end // self.block) * self.block, dtype=torch.int64)
        places[look.kv.positions] = torch.arange(end)
        always = torch.cat((places[: first * self.block], places[last * self.block : end]))
        return places.view(-1, self.block), always.expand(len(self.summaries), -1)

    def trim(self, length: int) -> None:
        if 0 < length < self.start:
            raise RunFailed(f"block_topk can take back what came after {self.start} tokens, the last pass, not after {length}")

    @property
    def nbytes(self) -> int:
        return self.summaries.nbytes + self.recent.nbytes
