"""A model as it is on disk, reading a text, for techniques that watch it before they change it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from core.cache.base import Layout
from core.cache.off import Off
from core.decoder.build import build
from core.decoder.linear import Linear
from core.decoder.model import Decoder
from core.decoder.plan import Plan, plan_of
from core.decoder.preparation import Preparation
from core.decoder.probe import Probe
from core.decoder.sites import softmax_over
from core.technique import NoOptions
from core.weights.native import Native


def decoder_as_stored(preparation: Preparation, progress: Callable[[], None]) -> tuple[Plan, Decoder]:
    """The model that is to be watched. `progress` is called for every layer and may raise to end the work."""
    plan = plan_of(preparation.checkpoint)
    return plan, build(plan, Native(NoOptions(), plan), lambda *_: progress())


def read_through(decoder: Decoder, tokens: list[int]) -> None:
    """Let `decoder` read `tokens` in one pass; what comes out is forgotten."""
    heads = tuple(block.attention.kv_heads for block in decoder.blocks)
    layout = Layout(heads, decoder.traits.head_size, len(tokens), torch.float32)
    with torch.inference_mode():
        decoder.forward(torch.tensor(tokens), softmax_over(decoder, Off(NoOptions(), layout)), Probe())


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
