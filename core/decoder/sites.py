"""The layers of a decoder as attention techniques find them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from core.attention.context import Context
from core.attention.mask import FULL, Reach
from core.attention.mechanism import Expand, Mechanism, Site
from core.attention.softmax import Softmax
from core.cache.base import Cache, Layout
from core.decoder.model import Decoder
from core.models.info import ModelInfo


def sites_of(decoder: Decoder, capacity: int, dtype: torch.dtype, info: ModelInfo | None = None) -> list[Site]:
    """The layers of `decoder`, in a run of at most `capacity` tokens whose keys and values are kept as `dtype`."""
    traits = decoder.traits
    return [
        Site(
            layer, traits.query_heads, block.attention.kv_heads, traits.head_size, traits.attention_scale,
            traits.attention_cap, block.attention.window, capacity, dtype, info,
        )
        for layer, block in enumerate(decoder.blocks)
    ]  # fmt: skip


def layout_of(decoder: Decoder, mechanisms: Sequence[Mechanism], capacity: int, dtype: torch.dtype) -> Layout:
    """What the cache of a run of at most `capacity` tokens must hold for `mechanisms`, the layers' own."""
    latents = [block.attention.latent for block in decoder.blocks]
    size = decoder.traits.head_size
    heads = [mechanism.site.kv_heads if latent is None else 1 for mechanism, latent in zip(mechanisms, latents, strict=True)]
    kept = tuple(count if mechanism.stores else 0 for count, mechanism in zip(heads, mechanisms, strict=True))
    sizes = tuple((size, size) if latent is None else latent.sizes for latent in latents)
    return Layout(kept, size, capacity, dtype, sizes, tuple(block.attention.rope for block in decoder.blocks))


def expansions_of(decoder: Decoder) -> list[Expand | None]:
    """For each layer, what makes keys and values of the latents that it caches; None where it caches themselves."""
    return [None if block.attention.latent is None else block.attention.expanded for block in decoder.blocks]


def softmax_over(decoder: Decoder, cache: Cache, reach: Reach = FULL) -> Context:
    """The trained attention of every layer over `cache`, within `reach`."""
    sites = sites_of(decoder, cache.layout.tokens, cache.layout.dtype)
    return Context(cache, [Softmax(site, reach) for site in sites], expansions_of(decoder))
