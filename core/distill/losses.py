"""How far one attention, or one model, is from another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def divergence(taught: Tensor, learned: Tensor) -> Tensor:
    """Mean over rows of the KL divergence in nats between softmaxes of logits [..., S]; what both cannot see is −∞."""
    weights, logs = taught.softmax(-1), taught.log_softmax(-1) - learned.log_softmax(-1)
    return (weights * logs.masked_fill(weights == 0, 0)).sum(-1).mean()


def strayed(taught: Sequence[Tensor], learned: Sequence[Tensor]) -> Tensor:
    """Mean over layers and tokens of the squared distance of streams [T, C], as a part of the taught one's square."""
    parts = [(a - b).square().sum(-1) / a.square().sum(-1) for a, b in zip(taught, learned, strict=True)]
    return torch.stack(parts).mean()
