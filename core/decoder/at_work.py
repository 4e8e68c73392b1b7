"""A model as it is on disk, reading a text, for techniques that watch it before they change it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from core.attention.context import Context
from core.attention.mechanism import Mechanism, Site
from core.attention.softmax import Softmax
from core.cache.base import Layout
from core.cache.off import Off
from core.decoder.build import build
from core.decoder.linear import Linear
from core.decoder.model import Decoder
from core.decoder.plan import Plan, plan_of
from core.decoder.preparation import Preparation
from core.decoder.probe import Probe
from core.decoder.sites import sites_of
from core.technique import NoOptions
from core.weights.native import Native


def decoder_as_stored(preparation: Preparation, progress: Callable[[], None]) -> tuple[Plan, Decoder]:
    """The model that is to be watched. `progress` is called for every layer and may raise to end the work."""
    plan = plan_of(preparation.checkpoint)
    return plan, build(plan, Native(NoOptions(), plan), lambda *_: progress())


def read_through(decoder: Decoder, tokens: list[int], attends: Callable[[Site], Mechanism] = Softmax) -> None:
    """Let `decoder` read `tokens` in one pass, each layer by what `attends` makes of it; what comes out is forgotten."""
    heads = tuple(block.attention.kv_heads for block in decoder.blocks)
    layout = Layout(heads, decoder.traits.head_size, len(tokens), torch.float32)
    with torch.inference_mode():
        found = [attends(site) for site in sites_of(decoder, len(tokens), torch.float32)]
        decoder.forward(torch.tensor(tokens), Context(Off(NoOptions(), layout), found), Probe())


class Watched(Linear):
    """A product that shows what goes in, [T, in], and what comes out, [T, out]."""

    def __init__(self, product: Linear, see: Callable[[torch.Tensor, torch.Tensor], None]) -> None:
        self.product, self.see = product, see
        self.in_features, self.out_features = product.in_features, product.out_features

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y = self.product(x)
        self.see(x, y)
        return y

    @property
    def nbytes(self) -> int:
        return self.product.nbytes

    def dense(self) -> torch.Tensor:
        return self.product.dense()
