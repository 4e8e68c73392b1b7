"""How far one attention is from another."""

from __future__ import annotations

from torch import Tensor


def divergence(taught: Tensor, learned: Tensor) -> Tensor:
    """Mean over rows of the KL divergence in nats between softmaxes of logits [..., S]; what both cannot see is −∞."""
    weights, logs = taught.softmax(-1), taught.log_softmax(-1) - learned.log_softmax(-1)
    return (weights * logs.masked_fill(weights == 0, 0)).sum(-1).mean()
