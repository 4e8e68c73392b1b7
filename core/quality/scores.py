"""Logits of two models at the same tokens into likelihood, divergence and agreement, a few rows at a time.

Notation: T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import kl_div

_BLOCK = 2**20  # logits of each model in one step: as many rows as stay in the processor's cache


@dataclass(frozen=True)
class Scores:
    """[T] each, float64, in nats: −log p of the text's own token by the configuration and by the unmodified model,
    KL(unmodified ‖ configuration), and 1 where both find the same token likeliest."""

    nll: np.ndarray
    base_nll: np.ndarray
    kl: np.ndarray
    same_top1: np.ndarray


def joined(parts: Sequence[Scores]) -> Scores:
    """The scores of one chunk after another."""
    names = ("nll", "base_nll", "kl", "same_top1")
    return Scores(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def scores(logits: torch.Tensor, base: torch.Tensor, targets: Sequence[int]) -> Scores:
    """Of `targets` [T], by the rows of two logits [T, V] float32. Nothing of size [T, V] is made."""
    rows = max(1, _BLOCK // logits.shape[-1])
    with torch.inference_mode():
        wanted = torch.tensor(targets)
        blocks = zip(*(torch.split(part, rows) for part in (logits, base, wanted)), strict=True)
        return joined([_block(*block) for block in blocks])


def _block(logits: torch.Tensor, base: torch.Tensor, targets: torch.Tensor) -> Scores:
    ours, theirs = logits.log_softmax(-1), base.log_softmax(-1)  # [rows, V]
    kl = kl_div(ours, theirs, reduction="none", log_target=True).sum(-1, dtype=torch.float64)  # [rows]
    nll, base_nll = (-each.gather(-1, targets[:, None])[:, 0].double() for each in (ours, theirs))
    same = (ours.argmax(-1) == theirs.argmax(-1)).double()
    return Scores(nll.numpy(), base_nll.numpy(), kl.numpy(), same.numpy())
