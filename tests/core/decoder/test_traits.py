"""Configs as the hub has them: written by transformers 4 and 5, whole or with keys left out."""

from __future__ import annotations

from typing import Any

import pytest
from parity_models import CASES

from core.decoder.rope_scaling import frequencies
from core.decoder.traits import Rope, traits_of
from core.errors import BadInput

FAMILIES = sorted({case.family for case in CASES})
SIZES = {
    "vocab_size": 100,
    "hidden_size": 1024,
    "intermediate_size": 96,
    "num_hidden_layers": 7,
    "num_attention_heads": 16,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_that_keys_left_out_mean_what_transformers_takes_them_for(family: str) -> None:
    from transformers import AutoConfig

    full = AutoConfig.for_model(family, **SIZES).to_dict()
    assert traits_of({"model_type": family, **SIZES}) == traits_of(full)


def test_that_fourteen_families_are_held_to_transformers() -> None:
    assert len(FAMILIES) == 14


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
GEMMA3 = {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5},
          "sliding_attention": {"rope_type": "default", "rope_theta": 100.0}}  # fmt: skip
PHI3 = {"short_factor": [1.0, 2.0], "long_factor": [3.0, 4.0]}
SPELLINGS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("llama", {"rope_theta": 5e5}, {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}),
    ("llama", {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
     {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}}),
    ("qwen2", {"rope_theta": 1e6, "rope_scaling": {"type": "yarn", "factor": 4.0}},
     {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0}}),
    ("gemma3_text", {"rope_theta": 5e5, "rope_local_base_freq": 100.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
     {"rope_parameters": GEMMA3}),
    ("phi3", {"rope_scaling": {"type": "su", **PHI3}},
     {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, **PHI3}}),
    ("phi3", {"partial_rotary_factor": 0.5}, {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}),
]  # fmt: skip


@pytest.mark.parametrize(("family", "old", "new"), SPELLINGS)
def test_that_both_spellings_of_rope_mean_the_same(family: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    def ropes(extra: dict[str, Any]) -> list[Any]:
        traits = traits_of({"model_type": family, **SIZES, **extra})
        return [rope and (rope.theta, rope.size, frequencies(rope, 64)[0].tolist()) for rope in traits.ropes]

    size = {"hidden_size": 64} if family == "phi3" else {}
    assert ropes({**size, **old}) == ropes({**size, **new})


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "mamba"}, "mamba"),
        ({"model_type": "llama", **SIZES, "hidden_act": "relu"}, "relu"),
        ({"model_type": "qwen3", **SIZES, "layer_types": ["linear_attention"] * 7}, "linear_attention"),
        ({"model_type": "gemma3_text", **SIZES, "use_bidirectional_attention": True}, "both directions"),
    ],
)
def test_that_what_the_decoder_cannot_do_is_refused_by_name(config: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        traits_of(config)


def test_that_an_unknown_rope_scaling_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match="spiral"):
        frequencies(Rope(1e4, 8, "spiral"), 10)
