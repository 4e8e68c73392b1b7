"""The k keys with the highest scores of each query and head: the best that any choice of keys could keep.

Every score is computed before any can be left out, so only the sums of values shrink.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from core.attention.gathered import ROWS, scored
from core.attention.highest import highest
from core.attention.mask import FULL, Reach
from core.attention.mechanism import Highest, Rows, Site
from core.attention.scores import visible
from core.attention.selective import Look, Selective
from core.attention.summing import summed
from core.attention.table import TopkOptions


class Topk(Selective):
    """Softmax over chosen keys; the query's own is always among them."""

    def __init__(self, options: TopkOptions, site: Site) -> None:
        super().__init__(site)
        self.k = options.k
        if self._own == FULL:
            self.chooses = Highest(self.k)

    def attended(self, look: Look, rows: Rows) -> Tensor:
        look = replace(look, kv=replace(look.kv, keys=look.kv.keys.float()))
        return torch.cat([self._attended(look.part(part)) for part in torch.split(torch.arange(len(look.q)), ROWS)])

    def _attended(self, look: Look) -> Tensor:
        slots, scores = self._chosen(look)
        y = summed(scores.softmax(-1).flatten(1, 2), slots.flatten(1, 2), look.kv.values)  # [G, shared · T, D]
        return y.view(look.q.shape[1], len(look.q), -1).transpose(0, 1)

    def _chosen(self, look: Look) -> tuple[Tensor, Tensor]:
        """The slots [G, shared, T, n] of the highest scores, and these, −∞ where nothing is held."""
        scores = scored(look.turned, look.kv.keys, self.site)
        slot = visible(Reach(0, 1), look.positions, look.kv).int().argmax(-1, keepdim=True)  # [T, 1] or [G, T, 1]
        own, hidden = _grouped(slot).expand(*scores.shape[:3], 1), ~_grouped(look.reached)
        mine = scores.gather(-1, own)
        first = int(hidden.flatten(0, -2).any(0).int().argmax())  # after the keys that all queries may see
        scores[..., first:].masked_fill_(hidden[..., first:], -torch.inf)
        scores.scatter_(-1, own, torch.inf)
        slots, found = highest(scores, self.k)
        return slots, torch.where(found == torch.inf, mine, found)

    def seen(self, look: Look) -> Tensor:
        slots, _ = self._chosen(look)
        return torch.zeros(*slots.shape[:3], look.kv.keys.shape[1], dtype=torch.bool).scatter_(-1, slots, True).flatten(0, 1)


def _grouped(mask: Tensor) -> Tensor:
    """[T, S] or [G, T, S], to go with [G, shared, T, S]."""
    return mask if mask.ndim == 2 else mask[:, None]
