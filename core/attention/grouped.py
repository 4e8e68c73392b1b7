"""Query heads beside the KV head that they share: [G, J, T, …] with J = H / G."""

from __future__ import annotations

import torch
from torch import Tensor

from core.attention.mechanism import Site


def grouped(x: Tensor, kv_heads: int) -> Tensor:
    """x [T, H, …] to [G, J, T, …] float32."""
    T, H, *rest = x.shape
    return x.float().view(T, kv_heads, H // kv_heads, *rest).movedim(0, 2)


def ungrouped(x: Tensor) -> Tensor:
    """x [G, J, T, D] to [T, H, D]."""
    return x.flatten(0, 1).transpose(0, 1)


def scores(q: Tensor, keys: Tensor, site: Site) -> Tensor:
    """Logits of the trained attention [G, J, T, S] for grouped q and keys [G, S, D]."""
    found = q @ keys.float()[:, None].transpose(-1, -2) * site.scale
    return site.cap * torch.tanh(found / site.cap) if site.cap else found
