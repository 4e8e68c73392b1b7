"""The layers that cache latents, as the compiled step walks through them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from core.attention import few_tiled
from core.attention.kernel import join_kernel, mix_kernel, scores_kernel
from core.attention.latent_kernel import as_tiles, gather_kernel, padded, tiled_products, turn_kernel
from core.decoder.fused.records import LATENT
from core.decoder.model import Attention, Latent


class Latents:
    """Records [L] of the layers that cache latents as numbers of `dtype`, and what they point to; other layers' are 0."""

    def __init__(self, layers: list[Attention], dtype: torch.dtype) -> None:
        self.dtype, self.records = dtype, np.zeros(len(layers), LATENT)
        self._kept: list[Tensor] = []
        for attention, record in zip(layers, self.records, strict=True):
            if attention.latent is not None:
                self._fill(record, attention, attention.latent)

    def address(self, layer: int) -> int:
        """Of a layer's record; 0 of a layer that caches keys and values."""
        return self.records[layer : layer + 1].ctypes.data if self.records["width"][layer] else 0

    def _fill(self, record: np.void, attention: Attention, latent: Latent) -> None:
        size, width = attention.out.in_features // attention.query_heads, padded(sum(latent.sizes))
        keys, values = _by_head(latent, size, width).to(self.dtype).chunk(2)
        tiled = few_tiled.fits(size, self.dtype)
        numbers = self.dtype if tiled else torch.float32  # of latents and keys while they are at hand
        transposed = values.transpose(1, 2).contiguous()
        record["first"], record["second"] = latent.sizes
        record["width"], record["join"] = width, join_kernel(width)
        record["gather"] = gather_kernel(latent.sizes, self.dtype, numbers)
        record["products"] = tiled_products(size, width) if tiled else mix_kernel(size, self.dtype)
        record["turn"] = _turn(attention, size, numbers)
        record["scores"] = few_tiled.scores_kernel(size) if tiled else scores_kernel(size, numbers)
        record["mix"] = few_tiled.mix_kernel(width) if tiled else mix_kernel(width, numbers)
        record["expand"] = mix_kernel(size, self.dtype)
        record["keys"] = self._address(as_tiles(keys) if tiled else keys.transpose(1, 2).contiguous())
        record["values"], record["means"] = self._address(transposed), self._address(_means(latent))
        record["matrix_size"] = size * width * self.dtype.itemsize

    def _address(self, tensor: Tensor) -> int:
        self._kept.append(tensor)
        return tensor.data_ptr()


def _by_head(latent: Latent, size: int, width: int) -> Tensor:
    """Float32 [2 · G, D, width]: of each KV head what makes its key of a latent, and then its value."""
    matrix = latent.expand.dense()
    return torch.nn.functional.pad(matrix, (0, width - matrix.shape[1])).view(-1, size, width)


def _means(latent: Latent) -> Tensor:
    bias = latent.expand.bias
    return torch.zeros(latent.expand.out_features) if bias is None else bias.float()


def _turn(attention: Attention, size: int, dtype: torch.dtype) -> int:
    half = 0 if attention.rope is None else attention.rope.rope.size // 2
    return turn_kernel(size, half, attention.k_norm is not None, dtype)
