"""Softmax attention over what a cache holds, masked by positions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.attention.mask import FULL, Pattern, Reach
from core.attention.mechanism import Mechanism, Rows, Site, Store
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
        return attend(q, store.update(k, v), rows, pattern, self.site)

    def _observed(self, q: Tensor, k: Tensor, v: Tensor, store: Store, rows: Rows, pattern: Pattern) -> Tensor:
        """As `attend`, over a cache that is told what each part of the rows looked at before the next one looks."""
        found, seen = [], []
        weigh = partial(attention_weights, pattern=pattern, site=self.site)
        for part in store.cache.parts(len(q)):
            kv, own = store.update(k[part], v[part]), Rows(rows.positions[part], rows.probe)
            found.append(attended(q[part], kv, own, pattern, self.site))
            store.cache.observe(store.layer, q[part], kv, own.positions, weigh)
            if rows.shown(self.site.layer):
                seen.append(by_position(weigh(q[part], kv, own.positions), kv))
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
    """Attention of q [T, H, D] over `kv`; returns [T, H, D] float32. The probe of `rows` sees the weights if it wants to."""
    y = attended(q, kv, rows, pattern, site)
    show(q, kv, rows, pattern, site)
    return y


def attended(q: Tensor, kv: KeyValues, rows: Rows, pattern: Pattern, site: Site) -> Tensor:
    """As `attend`, unseen by the probe."""
    if site.cap:
        weights = attention_weights(q, kv, rows.positions, pattern, site)
        values = kv.values.float().repeat_interleave(q.shape[1] // kv.values.shape[0], dim=0)
        y = (weights @ values).transpose(0, 1)
    else:
        dtype = _format(kv.keys)
        y = torch.nn.functional.scaled_dot_product_attention(
            _adapted(q, kv).to(dtype).transpose(0, 1)[None],
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


def _adapted(q: Tensor, kv: KeyValues) -> Tensor:
    return q if kv.adapt is None else kv.adapt(q)


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


def visible(pattern: Pattern, queries: Tensor, kv: KeyValues, heads: int) -> Tensor:
    """Bool [T, S], or [H, T, S] where heads differ, for query positions [T] and what `kv` holds."""
    if kv.positions.ndim == 1:
        seen: Tensor = pattern.allowed(queries, kv.positions)
        return seen if kv.versions is None else seen & kv.versions.allowed(queries)
    groups = kv.positions.shape[0]
    every = pattern.allowed(queries, kv.positions.flatten()).unflatten(-1, kv.positions.shape)  # [T, G, S] or [H, T, G, S]
    own = torch.arange(heads) // (heads // groups)  # KV head of each query head
    seen = every[torch.arange(heads), :, own] if every.ndim == 4 else every.transpose(0, 1)[own]
    return seen


def show(q: Tensor, kv: KeyValues, rows: Rows, pattern: Pattern, site: Site) -> None:
    """Hand the weights of q [T, H, D] over `kv` to the probe, where it asked for this layer."""
    if rows.shown(site.layer):
        rows.probe.lap("attention")
        last = slice(-rows.probe.attention_rows, None)
        weights = attention_weights(q[last], kv, rows.positions[last], pattern, site)
        rows.probe.attention(site.layer, *by_position(weights, kv))
        rows.probe.lap("capture")


def by_position(weights: Tensor, kv: KeyValues) -> tuple[np.ndarray, np.ndarray]:
    """Weights [H, T, S] float16 with positions [S] int32; of each position once, where heads or versions tell it apart."""
    if kv.positions.ndim == 1 and kv.versions is None:
        return weights.half().numpy(), kv.positions.int().numpy()
    heads, rows, slots = weights.shape
    keys = kv.positions.expand(kv.positions.shape[0] if kv.positions.ndim > 1 else 1, slots)
    places = keys.repeat_interleave(heads // len(keys), dim=0)[:, None].expand(heads, rows, slots)
    whole = torch.zeros(heads, rows, int(keys.max()) + 1).scatter_add_(2, places, weights)
    return whole.half().numpy(), np.arange(whole.shape[2], dtype=np.int32)


def attention_weights(q: Tensor, kv: KeyValues, positions: Tensor, pattern: Pattern, site: Site) -> Tensor:
    """Softmax weights [H, T, S] float32."""
    keys = kv.keys.float().repeat_interleave(q.shape[1] // kv.keys.shape[0], dim=0)  # [H, S, D]
    scores = _adapted(q, kv).transpose(0, 1).float() @ keys.transpose(1, 2) * site.scale
    if site.cap:
        scores = site.cap * torch.tanh(scores / site.cap)
    return scores.masked_fill(~visible(pattern, positions, kv, q.shape[1]), -torch.inf).softmax(dim=-1)


def stacked(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Captures of successive rows as one: weights [H, T, S] are widened with zeros to the keys of the last part."""
    keys = parts[-1][1]
    widened = [np.pad(weights, ((0, 0), (0, 0), (0, len(keys) - weights.shape[2]))) for weights, _ in parts]
    return np.concatenate(widened, axis=1), keys
