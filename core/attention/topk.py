"""The k keys with the highest scores of each query and head: the best that any choice of keys could keep.

Every score is computed before any can be left out, so only the sums of values shrink.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.attention.gathered import ROWS, scored
from core.attention.mask import Reach
from core.attention.mechanism import Mechanism, Rows, Site, Store
from core.attention.showing import show
from core.attention.table import TopkOptions
from core.cache.base import KeyValues

_MOST_VALUES = 2**22  # numbers gathered at once


class Topk(Mechanism):
    """Softmax over chosen keys; the query's own is always among them."""

    def __init__(self, options: TopkOptions, site: Site) -> None:
        super().__init__(site)
        self.k, self.own = options.k, Reach(0, site.window)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, store: Store, rows: Rows) -> Tensor:
        kv, held = store.update(k, v), self.own & store.reach
        most = min(self.k, len(kv.positions))
        together = min(ROWS, max(1, _MOST_VALUES // (q.shape[1] * most * kv.values.shape[2])))
        parts = zip(torch.split(q, together), torch.split(rows.positions, together), strict=True)
        y = torch.cat([self._attended(*part, kv, held) for part in parts])
        show(q, kv, rows, self.site, held, lambda queries, positions: self._sees(queries, positions, kv, held))
        return y

    def _attended(self, q: Tensor, positions: Tensor, kv: KeyValues, held: Reach) -> Tensor:
        """[T, H, D] float32 of q [T, H, D]."""
        scores, chosen = self._chosen(q, positions, kv, held)
        G, shared, T, n = chosen.shape
        weights = scores.gather(-1, chosen).softmax(-1)  # [G, shared, T, n]
        heads = torch.arange(G)[:, None]
        values = kv.values[heads, chosen.flatten(1)].float()  # [G, shared · T · n, D]
        y = weights.view(-1, 1, n) @ values.view(G * shared * T, n, -1)
        return y.view(G * shared, T, -1).transpose(0, 1)

    def _chosen(self, q: Tensor, positions: Tensor, kv: KeyValues, held: Reach) -> tuple[Tensor, Tensor]:
        """Scores [G, shared, T, S] of all keys, −∞ where not held, and the slots [G, shared, T, n] of the highest."""
        scores = scored(q, kv.keys, self.site)
        scores.masked_fill_(~held.allowed(positions, kv.positions), -torch.inf)
        own = positions[:, None] == kv.positions[None, :]
        return scores, scores.masked_fill(own, torch.inf).topk(min(self.k, len(kv.positions)), dim=-1, sorted=False).indices

    def _sees(self, q: Tensor, positions: Tensor, kv: KeyValues, held: Reach) -> Tensor:
        scores, chosen = self._chosen(q, positions, kv, held)
        return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, chosen, True).flatten(0, 1)
