"""Scores and weights of softmax attention over what a cache holds, all of them at once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from core.attention.mask import Pattern
from core.attention.mechanism import Site
from core.cache.base import KeyValues


def adapted(q: Tensor, kv: KeyValues) -> Tensor:
    """Queries q [T, H, D] in the form in which `kv` wants them."""
    return q if kv.adapt is None else kv.adapt(q)


def scores_of(q: Tensor, kv: KeyValues, site: Site) -> Tensor:
    """Scores [H, T, S] float32 of q [T, H, D], scaled and capped."""
    keys = kv.keys.float().repeat_interleave(q.shape[1] // kv.keys.shape[0], dim=0)  # [H, S, D]
    scores = adapted(q, kv).transpose(0, 1).float() @ keys.mT * site.scale
    return site.cap * torch.tanh(scores / site.cap) if site.cap else scores


def visible(pattern: Pattern, queries: Tensor, kv: KeyValues, heads: int) -> Tensor:
    """Bool [T, S], or [H, T, S] where heads differ, for query positions [T] and what `kv` holds."""
    if kv.positions.ndim == 1:
        seen: Tensor = pattern.allowed(queries, kv.positions)
        return seen if kv.versions is None else seen & kv.versions.allowed(queries)
    groups = kv.positions.shape[0]
    flat: Tensor = pattern.allowed(queries, kv.positions.flatten())
    every = flat.view(*flat.shape[:-1], *kv.positions.shape)  # [T, G, S] or [H, T, G, S]
    own = torch.arange(heads) // (heads // groups)  # KV head of each query head
    return every[torch.arange(heads), :, own] if every.ndim == 4 else every.transpose(0, 1)[own]


def attention_weights(q: Tensor, kv: KeyValues, positions: Tensor, pattern: Pattern, site: Site) -> Tensor:
    """Softmax weights [H, T, S] float32 of q [T, H, D] at `positions` [T]."""
    hidden = ~visible(pattern, positions, kv, q.shape[1])
    return scores_of(q, kv, site).masked_fill(hidden, -torch.inf).softmax(dim=-1)


def by_position(weights: Tensor, kv: KeyValues) -> tuple[np.ndarray, np.ndarray]:
    """Weights [H, T, S] float16 with positions [S] int32; of each position once, where heads or versions tell it apart."""
    if kv.positions.ndim == 1 and kv.versions is None:
        return weights.half().numpy(), kv.positions.int().numpy()
    heads, rows, slots = weights.shape
    keys = kv.positions.expand(kv.positions.shape[0] if kv.positions.ndim > 1 else 1, slots)
    places = keys.repeat_interleave(heads // len(keys), dim=0)[:, None].expand(heads, rows, slots)
    whole = torch.zeros(heads, rows, int(keys.max()) + 1).scatter_add_(2, places, weights)
    return whole.half().numpy(), np.arange(whole.shape[2], dtype=np.int32)
