"""A model that reads a text in one pass, and what it makes of the text on the way."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from core.cache.base import Layout
from core.cache.off import Off
from core.decoder.linear import quick_dtype
from core.decoder.model import Decoder
from core.decoder.probe import Probe
from core.decoder.sites import softmax_over
from core.technique import NoOptions


@dataclass(frozen=True)
class Reading:
    """hidden [T, C]: before the head. streams: x [T, C] behind the attention of each layer."""

    hidden: Tensor
    streams: list[Tensor]


def read(decoder: Decoder, tokens: Tensor) -> Reading:
    """Token ids [T]; gradients go back through every layer."""
    heads = tuple(block.attention.kv_heads for block in decoder.blocks)
    layout = Layout(heads, decoder.traits.head_size, len(tokens), quick_dtype())
    context, probe, streams = softmax_over(decoder, Off(NoOptions(), layout)), Probe(), list[Tensor]()
    rows, x = context.rows(len(tokens), probe), decoder.embedded(tokens, context, probe)
    for layer, block in enumerate(decoder.blocks):
        x = decoder.attended(layer, block, x, context, rows)
        streams.append(x)
        x = decoder.fed(layer, block, x, probe)
    return Reading(decoder.norm(x), streams)
