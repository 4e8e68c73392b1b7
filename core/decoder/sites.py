"""The layers of a decoder as attention techniques find them."""

from __future__ import annotations

import torch

from core.attention.context import Context
from core.attention.mask import FULL, Reach
from core.attention.mechanism import Site
from core.attention.softmax import Softmax
from core.cache.base import Cache
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


def softmax_over(decoder: Decoder, cache: Cache, reach: Reach = FULL) -> Context:
    """The trained attention of every layer over `cache`, within `reach`."""
    sites = sites_of(decoder, cache.layout.tokens, cache.layout.dtype)
    return Context(cache, [Softmax(site, reach) for site in sites])
