"""Weight techniques that quantize chosen layers and leave the rest as the file stores it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from core.decoder.linear import Linear
from core.decoder.plan import Plan, Source
from core.layers import parse_layers
from core.technique import NoOptions
from core.weights.form import PROCESSOR, Form
from core.weights.native import Native


class ChosenLayers(ABC):
    """The matrices of the layers that `layers` selects go through `quantized`; the head and the others are native."""

    def __init__(self, layers: str, plan: Plan, form: Form = PROCESSOR) -> None:
        self.layers = frozenset(parse_layers(layers, plan.traits.layers))
        self.rest = Native(NoOptions(), plan, form)
        self.kv_dtype = self.rest.kv_dtype

    def linear(self, sources: Sequence[Source], bias: Tensor | None, layer: int | None) -> Linear:
        if layer not in self.layers:
            return self.rest.linear(sources, bias, layer)
        return self.quantized(torch.cat([source.dense() for source in sources]), bias)

    def embedding(self, source: Source) -> Callable[[Tensor], Tensor]:
        return self.rest.embedding(source)

    @abstractmethod
    def quantized(self, weight: Tensor, bias: Tensor | None) -> Linear:
        """The product with weight [out, in] float32."""
