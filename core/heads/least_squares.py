"""Trained KV heads joined to shared ones with the least error: what sets them apart goes into W_q and W_o.

Rotary embedding turns each pair of a head's numbers like a complex number, so a key may be multiplied by a complex number for
each pair if its queries are multiplied for it; a value may be multiplied by any matrix if W_o is multiplied by its inverse.
So trained heads need not be alike to be joined: each is taken for the shared head times a factor of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.decoder.plan import Computed, LayerPlan
from core.heads.axes import weighed_axes


@dataclass(frozen=True)
class Sharing:
    """n trained heads and the shared one c = Σ inwards_j k_j, from which k_j ≈ outwards_j c; both [n, D, D]."""

    inwards: Tensor
    outwards: Tensor


def shared_keys(moment: Tensor, weights: Tensor, heads: int, rotated: int) -> Sharing:
    """Of the keys of `heads` trained heads, with second moment and weights of errors [n·D, n·D].

    rotated: numbers of a head that rotary embedding turns; the others may be multiplied like those of values.
    """
    size = len(moment) // heads
    inwards, outwards = _shared_pairs(_by_head(moment, heads), _by_head(weights, heads), rotated // 2)
    whole = Sharing(*(_multiplication(factors, size) for factors in (inwards, outwards)))
    rest = (torch.arange(heads)[:, None] * size + torch.arange(rotated, size)).flatten()
    if len(rest):
        plain = shared_values(moment[rest][:, rest], weights[rest][:, rest], heads)
        whole.inwards[:, rotated:, rotated:], whole.outwards[:, rotated:, rotated:] = plain.inwards, plain.outwards
    return whole


def shared_values(moment: Tensor, weights: Tensor, heads: int) -> Sharing:
    """Of the values of `heads` trained heads, with second moment and weights of errors [n·D, n·D]."""
    size = len(moment) // heads
    outwards, inwards = weighed_axes(moment, weights, size)
    return Sharing(inwards.reshape(size, heads, size).transpose(0, 1), outwards.reshape(heads, size, size))


def _by_head(matrix: Tensor, heads: int) -> Tensor:
    return matrix.reshape(heads, len(matrix) // heads, heads, -1)  # [n, D, n, D]


def _shared_pairs(moment: Tensor, weights: Tensor, half: int) -> tuple[Tensor, Tensor]:
    """Complex factors [n, half] of each pair that make the shared head, and that give the trained ones back."""
    first, second = slice(0, half), slice(half, 2 * half)
    places = (first, first), (second, second), (second, first), (first, second)
    asked = weights.diagonal(dim1=0, dim2=2).diagonal(dim1=0, dim2=1)  # [n, D]
    asked = (asked[:, first] + asked[:, second]).sqrt().T  # [half, n]
    a, b, c, d = (_same_pair(moment, *place) for place in places)
    products = torch.complex(a + b, c - d)  # E[k k̄ᵀ] of each pair, [half, n, n]
    strength, vectors = torch.linalg.eigh(asked[:, :, None] * products * asked[:, None])
    size = products.diagonal(dim1=1, dim2=2).real.mean(dim=1)
    scale = asked * (size / strength[:, -1].clamp_min(1e-30)).sqrt()[:, None]  # the shared head is as large as the trained ones
    return (vectors[..., -1].conj() * scale).T, (vectors[..., -1] / scale).T


def _same_pair(moment: Tensor, rows: slice, columns: slice) -> Tensor:
    """Of [n, D, n, D], what stands at the same place in `rows` and `columns`, [half, n, n]."""
    return moment[:, rows][..., columns].diagonal(dim1=1, dim2=3).permute(2, 0, 1)


def _multiplication(factors: Tensor, size: int) -> Tensor:
    """Complex `factors` [n, half] as matrices [n, D, D] on real and imaginary parts, half after half; 0 elsewhere."""
    half = factors.shape[1]
    place = torch.arange(half)
    matrices = torch.zeros(len(factors), size, size).double()
    matrices[:, place, place] = matrices[:, place + half, place + half] = factors.real
    matrices[:, place, place + half], matrices[:, place + half, place] = -factors.imag, factors.imag
    return matrices


def join_keys(layer: LayerPlan, groups: Sequence[Sharing]) -> Tensor:
    """Put shared key heads in the place of the trained ones, and the way back, [G, D, D], into W_q; returns it."""
    outwards = torch.cat([group.outwards for group in groups])
    back = _of_query_heads(layer, outwards)
    _change(layer, "k", lambda rows: _joined(rows, groups))
    _change(layer, "q", lambda rows: torch.einsum("hij,hic->hjc", back, rows.reshape(*back.shape[:2], -1)))
    return outwards


def join_values(layer: LayerPlan, groups: Sequence[Sharing]) -> Tensor:
    """Put shared value heads in the place of the trained ones, and the way back, [G, D, D], into W_o; returns it."""
    outwards, outputs = torch.cat([group.outwards for group in groups]), layer.o.dense().double()  # [C, H·D]
    back = _of_query_heads(layer, outwards)
    _change(layer, "v", lambda rows: _joined(rows, groups))
    changed = torch.einsum("chi,hij->chj", outputs.reshape(len(outputs), *back.shape[:2]), back)
    layer.o = Computed(changed.reshape(outputs.shape).float())
    return outwards


def _of_query_heads(layer: LayerPlan, outwards: Tensor) -> Tensor:
    """The way back of trained heads, [G, D, D], for each query head, [H, D, D]."""
    return outwards.repeat_interleave(layer.q.shape[0] // outwards.shape[0] // outwards.shape[1], dim=0)


def _joined(rows: Tensor, groups: Sequence[Sharing]) -> Tensor:
    """Rows [G·D, C] of trained heads as those of the shared ones."""
    inwards = torch.stack([group.inwards for group in groups])  # [groups, n, D, D]
    return torch.einsum("gnij,gnjc->gic", inwards, rows.reshape(*inwards.shape[:3], -1))


def _change(layer: LayerPlan, letter: str, change: Callable[[Tensor], Tensor]) -> None:
    """Replace a projection and its bias by `change` of their rows."""
    matrix = getattr(layer, letter).dense().double()  # [out, C]
    setattr(layer, letter, Computed(change(matrix).reshape(-1, matrix.shape[1]).float()))
    if letter in layer.biases:
        layer.biases[letter] = change(layer.biases[letter].double()[:, None]).flatten().float()
