"""Softmax attention over what a cache holds, masked by positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from core.attention.mask import FULL, Pattern, Reach
from core.attention.mechanism import Rows, Site
from core.attention.scores import adapted, by_head, scores_of, visible
from core.attention.selective import Look, Selective
from core.attention.table import SinkWindowOptions, WindowOptions
from core.cache.base import KeyValues
from core.decoder.linear import quick_dtype


class Softmax(Selective):
    """The trained mechanism, over the keys that a Reach lets through."""

    def __init__(self, site: Site, reach: Reach = FULL) -> None:
        super().__init__(site)
        self.reach: Reach = reach & Reach(0, site.window)

    def attended(self, look: Look, rows: Rows) -> Tensor:
        return _over(look.turned, look.kv, rows, self.reach & look.held, self.site)

    def seen(self, look: Look) -> Tensor:
        assert self.reach is not None
        return visible(self.reach, look.positions, look.kv)


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
    return _over(adapted(q, kv), kv, rows, pattern, site)


def _over(q: Tensor, kv: KeyValues, rows: Rows, pattern: Pattern, site: Site) -> Tensor:
    """As `attend`, with adapted queries."""
    if site.cap:
        seen = by_head(visible(pattern, rows.positions, kv), q.shape[1])
        weights = scores_of(q, kv, site).masked_fill(~seen, -torch.inf).softmax(dim=-1)  # [H, T, S]
        values = kv.values.float().repeat_interleave(q.shape[1] // kv.values.shape[0], dim=0)
        y = (weights @ values).transpose(0, 1)
    else:
        dtype = _format(kv.keys)
        y = torch.nn.functional.scaled_dot_product_attention(
            q.to(dtype).transpose(0, 1)[None],
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
    """Bool [T, S], or [H, T, S] where heads differ; None where a single row sees everything."""
    if len(q) == 1 and pattern == FULL and kv.versions is None:
        return None
    if kv.positions.ndim > 1:
        return by_head(visible(pattern, rows.positions, kv), q.shape[1])
    return rows.once((pattern, kv.versions), kv.positions, lambda: visible(pattern, rows.positions, kv))
