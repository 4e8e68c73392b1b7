"""Linear attention with the feature map elu(x) + 1, which nobody trained for this model."""

from __future__ import annotations

import torch
from torch import Tensor

from core.attention.linear import linear_attention
from core.attention.mechanism import Mechanism, Site
from core.attention.table import LinearEluOptions


class EluFeatures:
    """φ(x) = elu(x) + 1: x + 1 over zero and exp(x) under it."""

    def __init__(self, head_size: int) -> None:
        self.count = head_size

    def queries(self, q: Tensor) -> Tensor:
        return torch.where(q < 0, q, q.clamp_min(0).log1p())

    keys = queries


def linear_elu(options: LinearEluOptions, site: Site) -> Mechanism:
    """Linear attention in a layer."""
    return linear_attention(site, lambda: EluFeatures(site.head_size), options.window, options.sinks)
