"""A plan of random matrices."""

import pytest
import torch

from core.decoder.plan import Computed, GatedPlan, LayerPlan, Plan
from core.decoder.traits import traits_of

_CONFIG = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "vocab_size": 50,
}  # fmt: skip


@pytest.fixture
def tiny_plan() -> Plan:
    generator = torch.Generator().manual_seed(0)

    def matrix(rows: int, columns: int) -> Computed:
        return Computed(torch.randn(rows, columns, generator=generator) * columns**-0.5)

    def layer() -> LayerPlan:
        q, k, v, o = (matrix(64, 64) for _ in range(4))
        norms = {place: torch.ones(64) for place in ("before_attention", "before_ffn")}
        return LayerPlan(q, k, v, o, 4, GatedPlan(matrix(96, 64), matrix(96, 64), matrix(64, 96)), norms)

    embed = matrix(50, 64)
    return Plan(traits_of(_CONFIG), dict(_CONFIG), [layer(), layer()], embed, embed, torch.ones(64))
