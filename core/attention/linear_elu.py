"""Linear attention with the feature map elu(x) + 1, which nobody trained for this model."""

from __future__ import annotations

from math import log, sqrt

import torch
from torch import Tensor

from core.attention.linear import linear_attention
from core.attention.mechanism import Mechanism, Site
from core.attention.table import LinearEluOptions


class EluFeatures:
    """φ(x) = (elu(x√scale) + 1) / √D, where elu(x) + 1 is x + 1 over zero and exp(x) under it.

    So a key of zeros weighs as much as it would by softmax: the exact keys and the others are in one unit.
    """

    def __init__(self, head_size: int, scale: float) -> None:
        self.count, self.scale = head_size, scale

    def queries(self, q: Tensor) -> Tensor:
        x = q * sqrt(self.scale)
        return torch.where(x < 0, x, x.clamp_min(0).log1p()) - log(self.count) / 2

    keys = queries


def linear_elu(options: LinearEluOptions, site: Site) -> Mechanism:
    """Linear attention in a layer."""
    return linear_attention(site, lambda: EluFeatures(site.head_size, site.scale), options.window, options.sinks)
