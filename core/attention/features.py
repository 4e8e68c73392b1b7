"""Attention by feature maps, where the weight of a key is φ(q)·φ(k): logarithms of features, and sums over keys that left."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from core.attention.linear_step import enter
from core.attention.mechanism import Site

_NOTHING = -1e30  # the logarithm of a feature that no key has, finite so that differences of two are numbers
_SMALLEST = 1e-37


class FeatureMap(Protocol):
    """Positive features as logarithms, so that none overflows."""

    @property
    def count(self) -> int:
        """M, the number of features."""

    def queries(self, q: Tensor) -> Tensor:
        """log φ [G, J, T, M] of q [G, J, T, D]."""

    def keys(self, k: Tensor) -> Tensor:
        """log φ [G, S, M] of k [G, S, D]."""


class FeatureState:
    """Over the keys that were added: Σ φ(k) vᵀ [G, M, D] and Σ φ(k) [G, M], each divided by exp(peaks [G, M])."""

    def __init__(self, site: Site, count: int) -> None:
        G, D = site.kv_heads, site.head_size
        self.peaks = torch.full((G, count), _NOTHING)
        self.mass = torch.zeros(G, count)
        self.sums = torch.zeros(G, count, D)

    def add(self, keys: Tensor, values: Tensor) -> None:
        """Take in keys as log φ [G, S, M] and values [G, S, D]."""
        if keys.shape[1] == 1:
            enter(keys[:, 0].numpy(), values[:, 0].numpy(), *self.arrays())
            return
        peaks = torch.maximum(self.peaks, keys.amax(1))  # [G, M]
        before, features = (self.peaks - peaks).exp(), (keys - peaks[:, None]).exp()
        self.mass = self.mass * before + features.sum(1)
        self.sums = torch.baddbmm(self.sums * before[..., None], features.transpose(1, 2), values)
        self.peaks = peaks

    def read(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """For log φ of queries [G, J, T, M]: the logarithm of their weights' sum [G, J, T], and the mean value [G, J, T, D]."""
        logs = queries + self.peaks[:, None, None]
        peaks = logs.amax(-1, keepdim=True)
        features = (logs - peaks).exp()
        mass = (features @ self.mass[:, None, :, None]).clamp_min(_SMALLEST)  # [G, J, T, 1]
        return (peaks + mass.log())[..., 0], features @ self.sums[:, None] / mass

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Peaks, mass and sums in place, for compiled code."""
        return self.peaks.numpy(), self.mass.numpy(), self.sums.numpy()

    @property
    def nbytes(self) -> int:
        return self.peaks.nbytes + self.mass.nbytes + self.sums.nbytes


def kernel(queries: Tensor, keys: Tensor) -> Tensor:
    """log(φ(q)·φ(k)) [G, J, T, S] of log φ [G, J, T, M] and [G, S, M]."""
    highest = keys.amax(1, keepdim=True).detach()  # [G, 1, M]
    logs = queries + highest[:, None]
    peaks = logs.amax(-1, keepdim=True).detach()
    products = (logs - peaks).exp() @ (keys - highest).exp()[:, None].transpose(-1, -2)
    return peaks + products.clamp_min(_SMALLEST).log()
