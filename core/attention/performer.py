"""Linear attention with positive orthogonal random features, an unbiased estimate of exp(q·k·scale) (FAVOR+)."""

from __future__ import annotations

from math import log, sqrt

import torch
from torch import Tensor

from core.attention.linear import linear_attention
from core.attention.mechanism import Mechanism, Site
from core.attention.table import PerformerOptions


class RandomFeatures:
    """φ(x) = exp(ω·x√scale − |x|²·scale/2) / √M for the rows ω of directions [M, D]."""

    def __init__(self, directions: Tensor, scale: float) -> None:
        self.count, self.scale, self.directions = len(directions), scale, directions

    def queries(self, x: Tensor) -> Tensor:
        norms = x.square().sum(-1, keepdim=True) * self.scale / 2
        return x @ (self.directions * sqrt(self.scale)).T - norms - log(self.count) / 2

    keys = queries


def performer(options: PerformerOptions, site: Site) -> Mechanism:
    """Linear attention in a layer, with directions of its own."""

    def features() -> RandomFeatures:
        generator = torch.Generator().manual_seed(options.seed + site.layer)
        return RandomFeatures(orthogonal_directions(options.features, site.head_size, generator), site.scale)

    return linear_attention(site, features, options.window, options.sinks)


def orthogonal_directions(count: int, size: int, generator: torch.Generator) -> Tensor:
    """[count, size]: rows of standard normal length and direction, orthogonal to each other in runs of `size`."""
    squares = torch.randn(-(-count // size), size, size, generator=generator)
    lengths: Tensor = torch.randn(count, size, generator=generator).norm(dim=1, keepdim=True)
    directions: Tensor = torch.linalg.qr(squares).Q.flatten(0, 1)[:count]
    return directions * lengths
