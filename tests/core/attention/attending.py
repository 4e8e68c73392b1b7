"""One layer of an attention technique, fed random queries, keys and values in chunks."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from core.attention.context import Context
from core.attention.mechanism import Site, mechanisms
from core.cache.base import Cache, Layout
from core.cache.dynamic import Dynamic
from core.config import RunConfig
from core.decoder.probe import Probe
from core.technique import NoOptions

TOKENS, HEADS, KV_HEADS, SIZE, SCALE = 37, 6, 2, 8, 0.3
CHUNKS = {"prefill": [TOKENS], "chunked": [16, 16, 5], "decode": [20, *[1] * 17]}


def draws(tokens: int = TOKENS) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q [T, H, D], k and v [T, G, D]."""
    generator = torch.Generator().manual_seed(1)
    shapes = (tokens, HEADS, SIZE), (tokens, KV_HEADS, SIZE), (tokens, KV_HEADS, SIZE)
    q, k, v = (torch.randn(shape, generator=generator) for shape in shapes)
    return q, k, v


def site(cap: float = 0.0, window: int | None = None, tokens: int = TOKENS, dtype: torch.dtype = torch.float32) -> Site:
    return Site(0, HEADS, KV_HEADS, SIZE, SCALE, cap, window, tokens, dtype)


def context_of(settings: str, where: Site, cache: Cache | None = None) -> Context:
    """The attention technique that `settings` choose, over `cache`."""
    found = mechanisms(RunConfig().set(settings.split()).attention, [where])
    layout = Layout((KV_HEADS if found[0].stores else 0,), SIZE, where.capacity, where.dtype)
    return Context(cache or Dynamic(NoOptions(), layout), found)


def attended(context: Context, chunks: Sequence[int], probe: Probe | None = None) -> torch.Tensor:
    """y [T, H, D] of all draws, fed to `context` in chunks."""
    found = []
    for q, k, v in zip(*(part.split(list(chunks)) for part in draws(sum(chunks))), strict=True):
        found.append(context.attend(0, q, k, v, context.rows(len(q), probe or Probe())))
        context.advance(len(q))
    return torch.cat(found)


def rewound(settings: str, steps: Sequence[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """y [3, H, D] of three rows after passes taken back in part, (tokens fed, tokens taken back) each; and without them."""
    where, (q, k, v) = site(tokens=1000), draws(1000)

    def fed(context: Context, first: int, last: int) -> torch.Tensor:
        y = context.attend(0, q[first:last], k[first:last], v[first:last], context.rows(last - first, Probe()))
        context.advance(last - first)
        return y

    context, length = context_of(settings, where), 0
    for count, back in steps:
        fed(context, length, length + count)
        length += count - min(count, back)
        context.trim(length)
    return fed(context, length, length + 3), fed(context_of(settings, where), 0, length + 3)[length:]
