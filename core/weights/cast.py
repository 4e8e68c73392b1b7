"""All weights dequantized and cast to one number format."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from core.decoder.linear import Dense, Linear
from core.decoder.plan import Plan, Source
from core.models.checkpoint import StoredTensor
from core.weights.gguf_codes import QUANTIZED, codes_of
from core.weights.slab import Slab
from core.weights.table import CastOptions


class Cast:
    """Every matrix in one dtype, which is also the dtype of the products and of the KV cache."""

    def __init__(self, options: CastOptions, plan: Plan) -> None:
        self.dtype = self.kv_dtype = getattr(torch, options.dtype)
        self._slab = Slab()

    def linear(self, sources: Sequence[Source], bias: torch.Tensor | None, layer: int | None) -> Linear:
        return Dense(self._slab.stacked(sources, self.dtype), bias)

    def embedding(self, source: Source) -> Callable[[torch.Tensor], torch.Tensor]:
        return stored_rows(source)


def stored_rows(source: Source) -> Callable[[torch.Tensor], torch.Tensor]:
    """An embedding that reads the rows it needs from the mapped file, exactly."""

    def embed(tokens: torch.Tensor) -> torch.Tensor:
        rows = source.rows(tokens.numpy())
        if isinstance(rows, StoredTensor) and rows.kind in QUANTIZED:
            return torch.from_numpy(codes_of(rows.kind, rows.blocks).values())
        return rows.dense()

    return embed


def full_precision(source: Source) -> Linear:
    """A small matrix in float32, whatever the technique."""
    return Dense(source.dense())
