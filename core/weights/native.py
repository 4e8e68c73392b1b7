"""Weights as the file stores them: its own codes and scales, multiplied without a second rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from core.decoder.linear import Dense, Joined, Linear
from core.decoder.plan import Plan, Source
from core.models.checkpoint import StoredTensor
from core.technique import NoOptions
from core.weights.cast import stored_rows
from core.weights.gguf_codes import QUANTIZED, codes_of
from core.weights.packed import Packed, joined
from core.weights.slab import Slab


class Native:
    """Quantized GGUF blocks are repacked code by code; other matrices keep their stored number format.

    Matrices that a technique computed (pooled heads) are held in float32, so that nothing is rounded behind its back.
    """

    def __init__(self, options: NoOptions, plan: Plan) -> None:
        # A model in one 16-bit format caches its keys and values in it; one with quantized blocks computes in float32.
        stored = {"BF16": torch.bfloat16, "F16": torch.float16}.get(plan.layers[0].k.kind)
        self.kv_dtype = stored or torch.bfloat16
        self._slab = Slab()

    def linear(self, sources: Sequence[Source], bias: torch.Tensor | None, layer: int | None) -> Linear:
        if len({source.kind for source in sources}) == 1:
            return self._one_format(sources, bias)
        parts = [self._one_format([source], None) for source in sources]
        return Joined(parts, bias)

    def _one_format(self, sources: Sequence[Source], bias: torch.Tensor | None) -> Linear:
        kind = sources[0].kind
        blocks = [source.blocks for source in sources if isinstance(source, StoredTensor)]
        if kind in QUANTIZED:
            return Packed(joined([codes_of(kind, part) for part in blocks]), bias)
        dtype = {"F16": torch.float16, "BF16": torch.bfloat16}.get(kind, torch.float32)
        return Dense(self._slab.stacked(sources, dtype), bias)

    def embedding(self, source: Source) -> Callable[[torch.Tensor], torch.Tensor]:
        return stored_rows(source)
