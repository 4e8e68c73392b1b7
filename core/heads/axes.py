"""The fewest numbers that give a vector back nearly, where errors weigh differently."""

from __future__ import annotations

import torch
from torch import Tensor


def weighed_axes(covariance: Tensor, weights: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """expand [n, r] and compress [r, n]: y = expand compress y with the least weighed squared error, of covariance [n, n]."""
    sizes, axes = torch.linalg.eigh(weights)
    root = axes * sizes.sqrt() @ axes.T
    inverse = axes / sizes.sqrt() @ axes.T
    found = torch.linalg.eigh(root @ covariance @ root).eigenvectors.flip(1)[:, :rank]
    return inverse @ found, found.T @ root
