"""Scores and weights of softmax attention over what a cache holds, all of them at once, and what is left out of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from core.attention.mask import Pattern
from core.attention.mechanism import Site
from core.cache.base import KeyValues
from core.decoder.probe import Shown


def visible(pattern: Pattern, queries: Tensor, kv: KeyValues) -> Tensor:
    """Bool [T, S], or [G, T, S] where KV heads differ, for query positions [T] and what `kv` holds."""
    if kv.positions.ndim == 1:
        seen: Tensor = pattern.allowed(queries, kv.positions)
        return seen if kv.versions is None else seen & kv.versions.allowed(queries)
    every = pattern.allowed(queries, kv.positions.flatten()).unflatten(-1, kv.positions.shape)  # [T, G, S] or [G, T, G, S]
    own: Tensor = every.diagonal(dim1=0, dim2=2).permute(2, 0, 1) if every.ndim == 4 else every.transpose(0, 1)
    return own


def by_head(seen: Tensor, heads: int) -> Tensor:
    """[T, S], or [G, T, S] or [H, T, S], as [1 or H, T, S]."""
    return seen[None] if seen.ndim == 2 else seen.repeat_interleave(heads // len(seen), dim=0)


def adapted(q: Tensor, kv: KeyValues) -> Tensor:
    """Queries [T, H, D], the last ones of their pass, as the keys of `kv` are to be multiplied with."""
    return q if kv.adapt is None else kv.adapt(q)


def scores_of(q: Tensor, kv: KeyValues, site: Site) -> Tensor:
    """Scaled and capped scores [H, T, S] float32 of adapted q [T, H, D]."""
    keys = kv.keys.float().repeat_interleave(q.shape[1] // len(kv.keys), dim=0)  # [H, S, D]
    scores = q.transpose(0, 1).float() @ keys.mT * site.scale
    return site.cap * torch.tanh(scores / site.cap) if site.cap else scores


def weights_of(scores: Tensor, held: Tensor, seen: Tensor) -> tuple[Tensor, Tensor | None]:
    """Softmax weights [H, T, S] over what is both `held` and `seen`, both [T, S], [G, T, S] or [H, T, S].

    Then the attention mass kept: the share [H, T] of the softmax over all that is held, on what is seen; None where that is
    the same.
    """
    held, seen = by_head(held, len(scores)), by_head(seen, len(scores))
    both = held & seen
    kept = scores.masked_fill(~both, -torch.inf)
    if torch.equal(both, held.expand_as(both)):
        return kept.softmax(-1), None
    return kept.softmax(-1), (kept.logsumexp(-1) - scores.masked_fill(~held, -torch.inf).logsumexp(-1)).exp()


def by_position(weights: Tensor, mass: Tensor | None, kv: KeyValues) -> Shown:
    """Weights [H, T, S] float16 with positions [S] int32; of each position once, where heads or versions tell it apart.

    And the mass as it is.
    """
    kept = None if mass is None else mass.numpy()
    if kv.positions.ndim == 1 and kv.versions is None:
        return weights.half().numpy(), kv.positions.int().numpy(), kept
    heads, rows, slots = weights.shape
    keys = kv.positions.expand(kv.positions.shape[0] if kv.positions.ndim > 1 else 1, slots)
    places = keys.repeat_interleave(heads // len(keys), dim=0)[:, None].expand(heads, rows, slots)
    whole = torch.zeros(heads, rows, int(keys.max()) + 1).scatter_add_(2, places, weights)
    return whole.half().numpy(), np.arange(whole.shape[2], dtype=np.int32), kept
