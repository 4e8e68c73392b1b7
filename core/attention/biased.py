"""Softmax attention of many rows over keys that are hidden from some of them by what is added to their scores."""

from __future__ import annotations

import torch
from torch import Tensor

from core.attention.mechanism import Site
from core.attention.selective import Look

HIDDEN = -1e30  # beside which any score vanishes
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


def is_biased(look: Look, site: Site) -> bool:
    """Whether `attend_biased` takes this: slots are positions, and scores have no cap."""
    end = len(look.kv.positions)
    return look.plain and not site.cap and torch.equal(look.kv.positions, torch.arange(end))


def attend_biased(look: Look, bias: Tensor, window: int, site: Site) -> Tensor:
    """Attention [T, H, D] float32, in the number format of the keys.

    bias [G, shared, T, S] in that format: 0 or HIDDEN, for all keys before the first of the queries. What is after a query is
    hidden, and the last `window` keys are not.
    """
    (T, H, D), G = look.q.shape, len(bias)
    first = max(0, int(look.positions[0]) + 1 - window)
    distance, recent = look.positions[:, None] - look.kv.positions[first:], bias[..., first:]
    recent.masked_fill_((distance >= 0) & (distance < window), 0.0).masked_fill_(distance < 0, HIDDEN)
    queries = look.turned.transpose(0, 1).reshape(1, G, H // G * T, D).to(bias.dtype)
    keys, values = look.kv.keys[None], look.kv.values[None]
    y: Tensor = _flash(queries, keys, values, 0.0, False, attn_mask=bias.flatten(1, 2)[None], scale=site.scale)[0]
    return y.view(H, T, D).transpose(0, 1).float()
