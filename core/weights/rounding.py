"""Rounding to nearest on an evenly spaced grid for each group of weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from core.weights.packed import Codes


def quantize(weight: np.ndarray, bits: int, group_size: int) -> Codes:
    """weight [N, K] float32 to the codes of `on_grid`."""
    codes, scales, offsets = on_grid(torch.from_numpy(weight), bits, group_size)
    return Codes(codes.numpy(), scales.numpy(), offsets.numpy(), bits, length_of_group(weight.shape[1], group_size))


def length_of_group(columns: int, group_size: int) -> int:
    """Columns that share a scale; group_size 0 takes a whole row."""
    return min(group_size or columns, columns)


def on_grid(weight: Tensor, bits: int, group_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """weight [N, K] float32 to codes q = round((w − min) / scale), scale = (max − min) / (2^bits − 1) of each group.

    Returns codes uint8 [N, K], scales and minima float32 [N, groups]. Scale and minimum are rounded to float16 before the
    codes are chosen.
    """
    n, k = weight.shape
    size = length_of_group(k, group_size)
    groups = -(-k // size)
    edge = weight[:, -1:].expand(-1, groups * size - k)  # a short last group takes its last weight again
    padded = torch.cat((weight, edge), dim=1).view(n, groups, size)
    low, high = padded.aminmax(dim=2, keepdim=True)
    low = low.half().float()
    scale = ((high - low) / (2**bits - 1)).half().float()
    steps = (padded - low) / torch.where(scale == 0, 1.0, scale)
    codes = steps.round_().clamp_(0, 2**bits - 1).to(torch.uint8).view(n, -1)[:, :k]
    return codes.contiguous(), scale[..., 0], low[..., 0]
