"""Models of a known shape with random weights, made where they are used: speed does not depend on what weights say."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor

from core.decoder.plan import Computed, GatedPlan, LayerPlan, Plan, Source
from core.decoder.traits import traits_of
from core.errors import BadInput

_LLAMA2 = {"model_type": "llama", "vocab_size": 32000, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5}
SHAPES: dict[str, dict[str, Any]] = {
    "LLaMA-2-7B": {
        **_LLAMA2, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32,
    },
    "LLaMA-2-13B": {
        **_LLAMA2, "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40,
        "num_key_value_heads": 40,
    },
}  # fmt: skip


def named(name: str) -> str:
    """The shape called `7B`, or `LLaMA-2-7B`. Raises BadInput."""
    for known in SHAPES:
        if name in (known, known.rpartition("-")[2]):
            return known
    raise BadInput(f"--shapes: there is no shape {name!r}; the shapes are {', '.join(SHAPES)}")


@dataclass(frozen=True)
class Random:
    """A matrix [out, in] of float16 that is made anew, and the same, whenever it is asked for; products keep their size."""

    shape: tuple[int, ...]
    seed: int
    device: torch.device
    kind: str = "F16"

    @property
    def nbytes(self) -> int:
        return 2 * self.shape[0] * self.shape[1]

    def dense(self, dtype: torch.dtype | None = None) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(self.seed)
        values = torch.randn(self.shape, generator=generator, device=self.device) * self.shape[1] ** -0.5
        made: Tensor = values.half().to(dtype or torch.float32)
        return made

    def rows(self, index: Any) -> Source:
        return Computed(self.dense()[index])


def random_plan(config: dict[str, Any], device: torch.device) -> Plan:
    """A model of the shape that a Hugging Face llama config gives."""
    traits, seeds = traits_of(config), count()
    C, F, V = traits.width, traits.ffn_width, traits.vocabulary
    q, kv = traits.query_heads * traits.head_size, traits.kv_heads * traits.head_size

    def matrix(rows: int, columns: int) -> Random:
        return Random((rows, columns), next(seeds), device)

    def layer() -> LayerPlan:
        ffn = GatedPlan(matrix(F, C), matrix(F, C), matrix(C, F))
        norms = {place: torch.ones(C) for place in ("before_attention", "before_ffn")}
        return LayerPlan(matrix(q, C), matrix(kv, C), matrix(kv, C), matrix(C, q), traits.kv_heads, ffn, norms)

    return Plan(traits, config, [layer() for _ in range(traits.layers)], matrix(V, C), matrix(V, C), torch.ones(C))
