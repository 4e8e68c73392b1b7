"""Round to nearest: each group of weights on its own evenly spaced grid."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from core.decoder.linear import Linear
from core.decoder.plan import Plan
from core.weights.chosen import ChosenLayers
from core.weights.packed import Codes, Packed
from core.weights.table import RtnOptions


class Rtn(ChosenLayers):
    """The chosen layers' matrices at `bits`."""

    def __init__(self, options: RtnOptions, plan: Plan) -> None:
        super().__init__(options.layers, plan)
        self.options = options

    def quantized(self, weight: Tensor, bias: Tensor | None) -> Linear:
        return Packed(quantize(weight.numpy(), self.options.bits, self.options.group_size), bias)


def quantize(weight: np.ndarray, bits: int, group_size: int) -> Codes:
    """weight [N, K] float32 to codes q = round((w − min) / scale), scale = (max − min) / (2^bits − 1) of each group.

    group_size 0 takes a whole row. Scale and minimum are rounded to float16 before the codes are chosen.
    """
    n, k = weight.shape
    size = min(group_size or k, k)
    groups = -(-k // size)
    padded = np.pad(weight, ((0, 0), (0, groups * size - k)), mode="edge").reshape(n, groups, size)
    low, high = padded.min(axis=2, keepdims=True), padded.max(axis=2, keepdims=True)
    low = low.astype(np.float16).astype(np.float32)
    scale = ((high - low) / (2**bits - 1)).astype(np.float16).astype(np.float32)
    steps = (padded - low) / np.where(scale == 0, 1, scale)
    codes = np.clip(np.rint(steps), 0, 2**bits - 1).astype(np.uint8).reshape(n, -1)[:, :k]
    return Codes(codes, scale[..., 0], low[..., 0], bits, size)
