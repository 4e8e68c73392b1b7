"""Keys that random rotations put into the same bucket as the query, by rounds of locality-sensitive hashing."""

from __future__ import annotations

import torch
from torch import Tensor

from core.attention.gathered import ROWS, Pick, joined, pick
from core.attention.mask import FULL, Both, Reach
from core.attention.mechanism import Mechanism, Rows, Site, Store
from core.attention.showing import show
from core.attention.table import LshOptions
from core.cache.base import KeyValues


class Lsh(Mechanism):
    """Each head sees the keys of its buckets and a window. The buckets of keys are kept, a byte a round.

    One row gathers the keys that its heads see; many rows fill all buckets between them, so they only mask.
    """

    def __init__(self, options: LshOptions, site: Site) -> None:
        super().__init__(site)
        self.window, self.own = Reach(0, options.window), Reach(0, site.window)
        drawn = torch.Generator().manual_seed(options.seed * 4096 + site.layer)
        self.rotations = torch.randn(options.hashes, site.head_size, options.buckets // 2, generator=drawn)
        self.buckets = torch.zeros(options.hashes, site.kv_heads, site.capacity, dtype=torch.uint8)  # of keys, by position

    def attend(self, q: Tensor, k: Tensor, v: Tensor, store: Store, rows: Rows) -> Tensor:
        kv, held = store.update(k, v), self.own & store.reach
        self.buckets[..., rows.positions] = self._buckets_of(k)
        near = rows.mask(Both(self.window, held), kv.positions)
        reached = rows.mask(Both(held, FULL), kv.positions)
        assert near is not None
        assert reached is not None
        if len(q) == 1:
            y = joined(q, kv, [[_shared(self._seen(q, near, reached, kv))]], self.site)
        else:
            parts = torch.split(torch.arange(len(q)), ROWS)
            picks = [Pick(part, None, self._seen(q[part], near[part], reached[part], kv)) for part in parts]
            y = joined(q, KeyValues(kv.keys.float(), kv.values.float(), kv.positions), [picks], self.site)
        show(q, kv, rows, self.site, held, lambda queries, positions: self._shown(queries, positions, kv, held))
        return y

    def _buckets_of(self, x: Tensor) -> Tensor:
        """Buckets [rounds, heads, T] uint8 of x [T, heads, D]: which of the rotated axes, or its opposite, is nearest."""
        turned = x.float().transpose(0, 1) @ self.rotations[:, None]  # [rounds, heads, T, buckets / 2]
        return torch.cat((turned, -turned), -1).argmax(-1).to(torch.uint8)

    def _seen(self, q: Tensor, near: Tensor, reached: Tensor, kv: KeyValues) -> Tensor:
        """Bool [G, shared, T, S] of q [T, H, D]: keys `near`, and those `reached` [T, S] that share a bucket."""
        G, shape = len(kv.keys), (len(self.rotations), len(kv.keys))
        queries = self._buckets_of(q).view(*shape, q.shape[1] // G, len(q), 1)
        keys = self.buckets[..., kv.positions].view(*shape, 1, 1, -1)
        seen = queries[0] == keys[0]
        for query, key in zip(queries[1:], keys[1:], strict=True):
            seen |= query == key
        return seen.logical_and_(reached).logical_or_(near)

    def _shown(self, q: Tensor, positions: Tensor, kv: KeyValues, held: Reach) -> Tensor:
        """Bool [H, T, S]."""
        reached = held.allowed(positions, kv.positions)
        return self._seen(q, reached & self.window.allowed(positions, kv.positions), reached, kv).flatten(0, 1)

    @property
    def nbytes(self) -> int:
        return self.buckets.nbytes


def _shared(seen: Tensor) -> Pick:
    """One row [G, shared, 1, S]: what any head of a group sees is gathered once."""
    found = pick(torch.arange(seen.shape[1]), seen[:, :, 0])
    return Pick(torch.zeros(1, dtype=torch.int64), found.slots, None if found.mask is None else found.mask.transpose(1, 2))
