"""Attention one query at a time, in words: what patterns and mechanisms are compared with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from attending import HEADS, KV_HEADS, SCALE, TOKENS, draws

Sees = Callable[[int, int, int], bool]  # head, position of the query, position of the key


def plainly(sees: Sees, cap: float = 0.0, tokens: int = TOKENS) -> torch.Tensor:
    """y [T, H, D] of all draws."""
    q, k, v = draws(tokens)
    y = torch.zeros_like(q)
    for query in range(tokens):
        for head in range(HEADS):
            group = head // (HEADS // KV_HEADS)
            keys = [key for key in range(query + 1) if sees(head, query, key)]
            scores = torch.stack([score(q[query, head], k[key, group], cap) for key in keys])
            weights = scores.exp() / scores.exp().sum()
            y[query, head] = sum(weight * v[key, group] for weight, key in zip(weights, keys, strict=True))
    return y


def score(query: torch.Tensor, key: torch.Tensor, cap: float = 0.0) -> torch.Tensor:
    """The score of one key [D] for one query [D]."""
    found = query.dot(key) * SCALE
    return cap * torch.tanh(found / cap) if cap else found
