"""Softmax attention over what a cache holds, masked by positions."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from core.attention.mask import FULL, Pattern, Reach
from core.attention.mechanism import Mechanism, Rows, Site, Store
from core.attention.scores import adapted, attention_weights, by_position, visible
from core.attention.showing import show_reach, stacked
from core.attention.table import SinkWindowOptions, WindowOptions
from core.cache.base import KeyValues
from core.decoder.linear import quick_dtype


class Softmax(Mechanism):
    """The trained mechanism, over the keys that a Reach lets through."""

    def __init__(self, site: Site, reach: Reach = FULL) -> None:
        super().__init__(site)
        self.reach: Reach = reach & Reach(0, site.window)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, store: Store, rows: Rows) -> Tensor:
        pattern = self.reach & store.reach
        if store.cache.observes:
            return self._observed(q, k, v, store, rows, pattern)
        kv = store.update(k, v)
        y = attend(q, kv, rows, pattern, self.site)
        show_reach(q, kv, rows, self.site, self.reach, store.reach)
        return y

    def _observed(self, q: Tensor, k: Tensor, v: Tensor, store: Store, rows: Rows, pattern: Pattern) -> Tensor:
        """As `attend`, over a cache that is told what each part of the rows looked at before the next one looks."""
        found, seen = [], []
        weigh = partial(attention_weights, pattern=pattern, site=self.site)
        for part in store.cache.parts(len(q)):
            kv, own = store.update(k[part], v[part]), Rows(rows.positions[part], rows.probe)
            found.append(attend(q[part], kv, own, pattern, self.site))
            store.cache.observe(store.layer, q[part], kv, own.positions, weigh)
            if rows.shown(self.site.layer):
                seen.append((*by_position(weigh(q[part], kv, own.positions), kv), None))
        if seen:
            rows.probe.attention(self.site.layer, *stacked(seen))
        return torch.cat(found)


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
        dtype = _format(kv.keys)
        y = torch.nn.functional.scaled_dot_product_attention(
            adapted(q, kv).to(dtype).transpose(0, 1)[None],
            kv.keys.to(dtype)[None],
            _as_wide(kv.values, kv.keys).to(dtype)[None],
            attn_mask=_mask(q, kv, rows, pattern),
            scale=site.scale,
            enable_gqa=True,
        )[0, ..., : kv.values.shape[-1]].transpose(0, 1)
    return y.float()


def _format(keys: Tensor) -> torch.dtype:
    """That of `keys`, or float32 where the processor would take several times as long."""
    return keys.dtype if keys.is_cuda or quick_dtype() == torch.bfloat16 else torch.float32


def _as_wide(values: Tensor, keys: Tensor) -> Tensor:
    """Values padded to the size of keys: the fast kernels take no others."""
    missing = keys.shape[-1] - values.shape[-1]
    return torch.nn.functional.pad(values, (0, missing)) if missing > 0 else values


def _mask(q: Tensor, kv: KeyValues, rows: Rows, pattern: Pattern) -> Tensor | None:
    if kv.positions.ndim == 1:
        return rows.mask(pattern, kv.positions, kv.versions)
    if len(q) == 1 and pattern == FULL:
        return None
    return visible(pattern, rows.positions, kv, q.shape[1])
