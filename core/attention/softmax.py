"""Softmax attention over what a cache holds, masked by positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from core.attention.mask import FULL, Pattern, Reach
from core.attention.mechanism import Mechanism, Rows, Site, Store
from core.attention.showing import show_reach
from core.attention.table import SinkWindowOptions, WindowOptions
from core.cache.base import KeyValues


class Softmax(Mechanism):
    """The trained mechanism, over the keys that a Reach lets through."""

    def __init__(self, site: Site, reach: Reach = FULL) -> None:
        super().__init__(site)
        self.reach: Reach = reach & Reach(0, site.window)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, store: Store, rows: Rows) -> Tensor:
        kv = store.update(k, v)
        y = attend(q, kv, rows, self.reach & store.reach, self.site)
        show_reach(q, kv, rows, self.site, self.reach, store.reach)
        return y


def full(_options: Any, site: Site) -> Softmax:
    """The model's own pattern."""
    return Softmax(site)


def window(options: WindowOptions, site: Site) -> Softmax:
    """The most recent tokens."""
    return Softmax(site, Reach(0, options.window))


def sink_window(options: SinkWindowOptions, site: Site) -> Softmax:
    """The first tokens and the most recent ones."""
    return Softmax(site, Reach(options.sinks, options.window))


def attend(q: Tensor, kv: KeyValues, rows: Rows, pattern: Pattern, site: Site) -> Tensor:
    """Attention of q [T, H, D] over `kv`; returns [T, H, D] float32."""
    if site.cap:
        weights = attention_weights(q, kv, rows.positions, pattern, site)
        values = kv.values.float().repeat_interleave(q.shape[1] // kv.values.shape[0], dim=0)
        y = (weights @ values).transpose(0, 1)
    else:
        y = torch.nn.functional.scaled_dot_product_attention(
            q.to(kv.keys.dtype).transpose(0, 1)[None],
            kv.keys[None],
            kv.values[None],
            attn_mask=rows.mask(pattern, kv.positions),
            scale=site.scale,
            enable_gqa=True,
        )[0].transpose(0, 1)
    return y.float()


def attention_weights(q: Tensor, kv: KeyValues, positions: Tensor, pattern: Pattern, site: Site) -> Tensor:
    """Softmax weights [H, T, S] float32."""
    keys = kv.keys.float().repeat_interleave(q.shape[1] // kv.keys.shape[0], dim=0)  # [H, S, D]
    scores = q.transpose(0, 1).float() @ keys.transpose(1, 2) * site.scale
    if site.cap:
        scores = site.cap * torch.tanh(scores / site.cap)
    allowed = pattern.allowed(positions, kv.positions)
    return scores.masked_fill(~allowed, -torch.inf).softmax(dim=-1)
