"""Keys that random rotations put into the same bucket as the query, by rounds of locality-sensitive hashing."""

from __future__ import annotations

import torch
from torch import Tensor

from core.attention.biased import HIDDEN, attend_biased, is_biased
from core.attention.gathered import ROWS, Pick, joined, pick
from core.attention.mask import FULL, Both, Reach
from core.attention.mechanism import Buckets, Rows, Site
from core.attention.scores import visible
from core.attention.selective import Look, Selective
from core.attention.table import LshOptions


class Lsh(Selective):
    """Each head sees the keys of its buckets and a window. The buckets of keys are kept, a byte a round.

    One row gathers the keys that its heads see; many rows fill all buckets between them, so they only mask.
    """

    def __init__(self, options: LshOptions, site: Site) -> None:
        super().__init__(site)
        self.window = Reach(0, options.window)
        drawn = torch.Generator().manual_seed(options.seed * 4096 + site.layer)
        self.rotations = torch.randn(options.hashes, site.head_size, options.buckets // 2, generator=drawn)
        self.buckets = torch.zeros(options.hashes, site.kv_heads, site.capacity, dtype=torch.uint8)  # of keys, by position
        if self._own == FULL:
            self.chooses = Buckets(self.rotations.transpose(0, 1).flatten(1), self.buckets, options.window)

    def take(self, k: Tensor, positions: Tensor) -> None:
        self.buckets[..., positions] = self._buckets_of(k)

    def attended(self, look: Look, rows: Rows) -> Tensor:
        if len(look.q) == 1:
            return joined(look, [[_shared(self._choice(look))]], self.site)
        parts = [look.part(part) for part in torch.split(torch.arange(len(look.q)), ROWS)]
        if not is_biased(look, self.site):
            return torch.cat([self._masked(part) for part in parts])
        marks = self._marks(self._buckets_at(look.kv.positions), look.kv.keys.dtype)
        return torch.cat([self._biased(part, marks[:, : len(part.kv.positions)]) for part in parts])

    def _biased(self, look: Look, keys: Tensor) -> Tensor:
        """keys [G, S, rounds · buckets]: marks of their buckets."""
        queries = self._marks(self._buckets_of(look.q), keys.dtype).view(len(keys), -1, keys.shape[-1])  # [G, shared · T, …]
        bias = (queries @ keys.mT).clamp_(max=1).sub_(1).mul_(-HIDDEN)
        return attend_biased(look, bias.view(len(keys), -1, len(look.q), keys.shape[1]), self.window.window or 0, self.site)

    def _marks(self, buckets: Tensor, dtype: torch.dtype) -> Tensor:
        """1 in the place of each of the buckets [rounds, heads, T], else 0: [heads, T, rounds · buckets], so that a product is
        the number of rounds in which two share one."""
        marks = buckets[..., None] == torch.arange(2 * self.rotations.shape[2], dtype=torch.uint8)
        return marks.permute(1, 2, 0, 3).flatten(2).to(dtype)

    def _masked(self, look: Look) -> Tensor:
        return joined(look, [[Pick(torch.arange(len(look.q)), None, self._choice(look))]], self.site)

    def seen(self, look: Look) -> Tensor:
        return self._choice(look).flatten(0, 1)

    def _choice(self, look: Look) -> Tensor:
        """Bool [G, shared, T, S]: held keys that are near or share a bucket."""
        shape = len(self.rotations), len(look.kv.keys)
        queries = self._buckets_of(look.q).view(*shape, -1, len(look.q), 1)
        keys = self._buckets_at(look.kv.positions).view(*shape, 1, 1, -1)
        seen = queries[0] == keys[0]
        for query, key in zip(queries[1:], keys[1:], strict=True):
            seen |= query == key
        near, reached = visible(Both(self.window, look.held), look.positions, look.kv), look.reached
        if near.ndim == 3:
            near, reached = near[:, None], reached[:, None]
        return seen.logical_and_(reached).logical_or_(near)

    def _buckets_of(self, x: Tensor) -> Tensor:
        """Buckets [rounds, heads, T] uint8 of x [T, heads, D]: which of the rotated axes, or its opposite, is nearest."""
        turned = x.float().transpose(0, 1) @ self.rotations[:, None]  # [rounds, heads, T, buckets / 2]
        return torch.cat((turned, -turned), -1).argmax(-1).to(torch.uint8)

    def _buckets_at(self, positions: Tensor) -> Tensor:
        """Of the keys at positions [S] or [G, S]: [rounds, G, S]."""
        if positions.ndim == 1:
            return self.buckets[..., positions]
        return self.buckets.gather(2, positions.expand(len(self.buckets), -1, -1))

    @property
    def nbytes(self) -> int:
        return self.buckets.nbytes


def _shared(seen: Tensor) -> Pick:
    """One row [G, shared, 1, S]: what any head of a group sees is gathered once."""
    found = pick(torch.arange(seen.shape[1]), seen[:, :, 0])
    return Pick(torch.zeros(1, dtype=torch.int64), found.slots, None if found.mask is None else found.mask.transpose(1, 2))
