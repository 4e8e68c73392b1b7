"""How much an error in keys and values matters: by what it does to scores and to the block's output."""

from __future__ import annotations

import torch
from torch import Tensor

from core.decoder.plan import LayerPlan
from core.decoder.rope import RopeTable
from core.decoder.traits import Traits
from core.heads.moments import Moments

_DISTANCES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)  # attention falls with distance, about as its inverse
_FLOOR = 1e-4  # of the mean weight: what no query asks for still counts a little


def importance(layer: LayerPlan, seen: Moments, traits: Traits, rope: RopeTable | None) -> Tensor:
    """Weights [2·G·D, 2·G·D] of the squared error of keys and values, in which scores and outputs count alike.

    An error e of a key changes the score of q by q · R e, so it counts by the second moment of the queries of its heads,
    rotated to the distances that they look over; one of a value counts by what W_o makes of it.
    """
    G, D = layer.kv_heads, traits.head_size
    keys = _by_kv_head(_seen_from_afar(seen.queries, rope), G)
    if "k_norm" in layer.norms:
        gain = layer.norms["k_norm"].double().reshape(-1, D).expand(G, D)  # of each head, or one of all
        keys = gain[:, :, None] * keys * gain[:, None]
    outputs = layer.o.dense().double().reshape(-1, len(seen.queries), D).transpose(0, 1)  # [H, C, D]
    values = _by_kv_head(outputs.transpose(1, 2) @ outputs, G)
    parts = torch.zeros(2, G * D, G * D).double()
    for part, blocks, spread in zip(parts, (keys, values), _halves(seen.covariance), strict=True):
        for head, block in enumerate(blocks):
            own = slice(head * D, head * D + D)
            part[own, own] = block
        part += _FLOOR * part.diagonal().mean() * torch.eye(len(part))
        part /= (part * spread).sum()
    nothing = torch.zeros_like(parts[0])
    return torch.cat((torch.cat((parts[0], nothing)), torch.cat((nothing, parts[1]))), dim=1)


def _by_kv_head(moments: Tensor, kv_heads: int) -> Tensor:
    """Sums [G, D, D] over the query heads that share a KV head, of [H, D, D]."""
    return moments.reshape(kv_heads, -1, *moments.shape[1:]).sum(dim=1)


def _seen_from_afar(queries: Tensor, rope: RopeTable | None) -> Tensor:
    """Second moments [H, D, D] of queries, averaged over the distances at which they meet keys."""
    if rope is None:
        return queries
    rope.reserve(_DISTANCES[-1] + 1, _DISTANCES[-1] + 1)
    size = queries.shape[-1]
    total = torch.zeros_like(queries)
    for distance in _DISTANCES:
        turn = rope.rotate(torch.eye(size)[:, None], torch.full((size,), distance))[:, 0].double()  # row i: e_i, turned
        total += turn.T @ queries @ turn
    return total / len(_DISTANCES)


def _halves(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Of keys, and of values."""
    half = len(covariance) // 2
    return covariance[:half, :half], covariance[half:, half:]
