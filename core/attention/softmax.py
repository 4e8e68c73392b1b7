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


class Masks:
    """Masks of one pass, made once for all layers that share a reach."""

    def __init__(self, queries: Tensor) -> None:
        self.queries = queries
        self._made: dict[tuple[Reach, int], Tensor] = {}

    def of(self, reach: Reach, keys: Tensor) -> Tensor | None:
        """Bool [T, S] for keys at positions `keys` [S]; None when every key is visible, as in a step over a whole cache."""
        if len(self.queries) == 1:
            return None if reach.window is None else reach.allowed(self.queries, keys)
        # In a pass of several rows the keys are one run of positions that ends with the last query.
        place = reach, len(keys)
        if place not in self._made:
            self._made[place] = reach.allowed(self.queries, keys)
        return self._made[place]


def attend(q: Tensor, kv: KeyValues, masks: Masks, reach: Reach, scale: float, cap: float) -> Tensor:
    """Attention of q [T, H, D] over `kv`; returns [T, H, D] float32.

    cap: soft cap of the scores (gemma2), 0 for none.
    """
    if cap:
        weights = attention_weights(q, kv, masks.queries, reach, scale, cap)
        values = kv.values.float().repeat_interleave(q.shape[1] // kv.values.shape[0], dim=0)
        return (weights @ values).transpose(0, 1)
    y = torch.nn.functional.scaled_dot_product_attention(
        q.to(kv.keys.dtype).transpose(0, 1)[None],
        kv.keys[None],
        kv.values[None],
        attn_mask=masks.of(reach, kv.positions),
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
