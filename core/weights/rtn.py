"""Round to nearest: each group of weights on its own evenly spaced grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from core.decoder.linear import Linear
from core.decoder.plan import Plan, Source
from core.layers import parse_layers
from core.technique import NoOptions
from core.weights.native import Native
from core.weights.packed import Codes, Packed
from core.weights.table import RtnOptions


class Rtn:
    """The chosen layers' matrices at `bits`; the head and the other layers as the file stores them."""

    def __init__(self, options: RtnOptions, plan: Plan) -> None:
        self.options = options
        self.layers = frozenset(parse_layers(options.layers, plan.traits.layers))
        self.rest = Native(NoOptions(), plan)
        self.kv_dtype = self.rest.kv_dtype

    def linear(self, sources: Sequence[Source], bias: torch.Tensor | None, layer: int | None) -> Linear:
        if layer not in self.layers:
            return self.rest.linear(sources, bias, layer)
        weight = np.concatenate([source.dense().numpy() for source in sources])
        return Packed(quantize(weight, self.options.bits, self.options.group_size), bias)

    def embedding(self, source: Source) -> Callable[[torch.Tensor], torch.Tensor]:
        return self.rest.embedding(source)


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
