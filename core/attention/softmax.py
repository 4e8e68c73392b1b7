"""Softmax attention over what a cache holds, masked by positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.attention.mask import Reach


@dataclass(frozen=True)
class KeyValues:
    """What a cache hands to attention: keys and values [G, S, D], and the position of each slot [S]."""

    keys: Tensor
    values: Tensor
    positions: Tensor


def attend(q: Tensor, kv: KeyValues, positions: Tensor, reach: Reach, scale: float, cap: float) -> Tensor:
    """Attention of q [T, H, D] at `positions` [T] over `kv`; returns [T, H, D] float32.

    cap: soft cap of the scores (gemma2), 0 for none.
    """
    if cap:
        weights = attention_weights(q, kv, positions, reach, scale, cap)
        values = kv.values.float().repeat_interleave(q.shape[1] // kv.values.shape[0], dim=0)
        return (weights @ values).transpose(0, 1)
    mask = _mask(positions, kv.positions, reach)
    y = torch.nn.functional.scaled_dot_product_attention(
        q.to(kv.keys.dtype).transpose(0, 1)[None],
        kv.keys[None],
        kv.values[None],
        attn_mask=mask,
        scale=scale,
        enable_gqa=True,
    )
    return y[0].transpose(0, 1).float()


def attention_weights(q: Tensor, kv: KeyValues, positions: Tensor, reach: Reach, scale: float, cap: float) -> Tensor:
    """Softmax weights [H, T, S] float32."""
    keys = kv.keys.float().repeat_interleave(q.shape[1] // kv.keys.shape[0], dim=0)  # [H, S, D]
    scores = q.transpose(0, 1).float() @ keys.transpose(1, 2) * scale
    if cap:
        scores = cap * torch.tanh(scores / cap)
    allowed = reach.allowed(positions, kv.positions)
    return scores.masked_fill(~allowed, -torch.inf).softmax(dim=-1)


def captured(
    q: Tensor, kv: KeyValues, positions: Tensor, reach: Reach, scale: float, cap: float
) -> tuple[np.ndarray, np.ndarray]:
    """The weights as events carry them: [H, T, S] float16 and key positions [S] int32."""
    weights = attention_weights(q, kv, positions, reach, scale, cap)
    return weights.half().numpy(), kv.positions.int().numpy()


def stacked(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Captures of successive rows as one: weights [H, T, S] are widened with zeros to the keys of the last part."""
    keys = parts[-1][1]
    widened = [np.pad(weights, ((0, 0), (0, 0), (0, len(keys) - weights.shape[2]))) for weights, _ in parts]
    return np.concatenate(widened, axis=1), keys


def _mask(queries: Tensor, keys: Tensor, reach: Reach) -> Tensor | None:
    """None when every key is visible to every query, as in a decode step over the whole cache."""
    if len(queries) == 1 and reach.window is None:
        return None
    allowed: Tensor = reach.allowed(queries, keys)
    return allowed
