"""The k keys with the highest scores of each query and head: the best that any choice of keys could keep.

Every score is computed before any can be left out, so only the sums of values shrink.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.attention.gathered import ROWS, scored
from core.attention.mask import FULL, Reach
from core.attention.mechanism import Highest, Rows, Site
from core.attention.scores import visible
from core.attention.selective import Look, Selective
from core.attention.table import TopkOptions

_MOST_VALUES = 2**22  # numbers gathered at once


class Topk(Selective):
    """Softmax over chosen keys; the query's own is always among them."""

    def __init__(self, options: TopkOptions, site: Site) -> None:
        super().__init__(site)
        self.k = options.k
        if self._own == FULL:
            self.chooses = Highest(self.k)

    def attended(self, look: Look, rows: Rows) -> Tensor:
        most = min(self.k, look.kv.positions.shape[-1])
        together = min(ROWS, max(1, _MOST_VALUES // (look.q.shape[1] * most * look.kv.values.shape[2])))
        parts = torch.split(torch.arange(len(look.q)), together)
        return torch.cat([self._attended(look.part(part)) for part in parts])

    def _attended(self, look: Look) -> Tensor:
        scores, chosen = self._chosen(look)
        G, shared, T, n = chosen.shape
        weights = scores.gather(-1, chosen).softmax(-1)  # [G, shared, T, n]
        heads = torch.arange(G)[:, None]
        values = look.kv.values[heads, chosen.flatten(1)].float()  # [G, shared · T · n, D]
        y = weights.view(-1, 1, n) @ values.view(G * shared * T, n, -1)
        return y.view(G * shared, T, -1).transpose(0, 1)

    def _chosen(self, look: Look) -> tuple[Tensor, Tensor]:
        """Scores [G, shared, T, S] of all keys, −∞ where not held, and the slots [G, shared, T, n] of the highest."""
        scores = scored(look.turned, look.kv.keys, self.site)
        scores.masked_fill_(~_grouped(look.reached), -torch.inf)
        own = _grouped(visible(Reach(0, 1), look.positions, look.kv))
        most = min(self.k, scores.shape[-1])
        return scores, scores.masked_fill(own, torch.inf).topk(most, dim=-1, sorted=False).indices

    def seen(self, look: Look) -> Tensor:
        scores, chosen = self._chosen(look)
        return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, chosen, True).flatten(0, 1)


def _grouped(mask: Tensor) -> Tensor:
    """[T, S] or [G, T, S], to go with [G, shared, T, S]."""
    return mask if mask.ndim == 2 else mask[:, None]
