"""Tiny random checkpoints of every family the local decoder knows, with no trait left at a value that hides it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

VOCABULARY = 97
LEFT_OUT: Any = object()
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_LLAMA3 = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 24}
_YARN = {"factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 8.0}
_MOE = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "norm_topk_prob": False}
_WINDOWED = {"use_sliding_window": True, "sliding_window": 11}


def _divisors(seed: int, count: int) -> list[float]:
    return (1 + 3 * torch.rand(count, generator=torch.Generator().manual_seed(seed))).tolist()


def _longrope(size: int, original: int) -> dict[str, Any]:
    return {
        "rope_parameters": {
            "rope_type": "longrope", "rope_theta": 300.0, "partial_rotary_factor": size / 8,
            "short_factor": _divisors(1, size // 2), "long_factor": _divisors(2, size // 2),
        },
        "original_max_position_embeddings": original,
    }  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A family, with what its config says beyond the sizes."""

    name: str
    family: str
    settings: dict[str, Any] = field(default_factory=dict)

    def config(self) -> Any:
        """transformers' config."""
        from transformers import AutoConfig

        settings = {key: value for key, value in {**_SIZES, **self.settings}.items() if value is not LEFT_OUT}
        return AutoConfig.for_model(self.family, **settings)


_LAYER_TYPES = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
_GEMMA3_ROPES = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
}
_CAPS = {"sliding_window": 7, "query_pre_attn_scalar": 20, "final_logit_softcapping": 3.0}
_GRANITE = {"embedding_multiplier": 3.0, "residual_multiplier": 0.4, "attention_multiplier": 0.21, "logits_scaling": 2.5}
_OLMOE = {**_MOE, "head_dim": LEFT_OUT, "moe_intermediate_size": LEFT_OUT}
_SHARED = {**_MOE, "head_dim": LEFT_OUT, "shared_expert_intermediate_size": 40}


def _rope(kind: str, theta: float, **scaling: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": theta, **scaling}}


CASES = (
    Case("llama", "llama", {**_rope("default", 777.0), "rms_norm_eps": 1e-3}),
    Case("llama-biases-tied", "llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    Case("llama-llama3", "llama", _rope("llama3", 50.0, **_LLAMA3)),
    Case("llama-linear", "llama", _rope("linear", 900.0, factor=3.0)),
    Case("llama-dynamic", "llama", {**_rope("dynamic", 900.0, factor=2.0), "max_position_embeddings": 32}),
    Case("llama-yarn", "llama", _rope("yarn", 500.0, **_YARN)),
    Case("llama-yarn-mscale", "llama", _rope("yarn", 500.0, **_YARN, mscale=0.7, mscale_all_dim=1.3, truncate=False)),
    Case("mistral", "mistral", {"sliding_window": 9}),
    Case("mistral-full", "mistral", {"sliding_window": None, "head_dim": 16}),
    Case("qwen2", "qwen2", {**_WINDOWED, "head_dim": LEFT_OUT, "max_window_layers": 2, "tie_word_embeddings": True}),
    Case("qwen3", "qwen3", {**_WINDOWED, "max_window_layers": 1, "attention_bias": True}),
    Case("qwen3-layer-types", "qwen3", {**_WINDOWED, "layer_types": ["sliding_attention", "full_attention"] * 2}),
    Case("gemma2", "gemma2", {**_CAPS, "attn_logit_softcapping": 2.0}),
    Case("gemma3", "gemma3_text", {**_CAPS, "layer_types": _LAYER_TYPES, "rope_parameters": _GEMMA3_ROPES}),
    Case("phi3", "phi3", {"head_dim": LEFT_OUT, "sliding_window": 13}),
    Case("phi3-partial", "phi3", {"head_dim": LEFT_OUT, **_rope("default", 300.0, partial_rotary_factor=0.5)}),
    Case("phi3-longrope-long", "phi3", {"head_dim": LEFT_OUT, **_longrope(8, original=32), "tie_word_embeddings": True}),
    Case("phi3-longrope-short", "phi3", {"head_dim": LEFT_OUT, **_longrope(4, original=64)}),
    Case("olmo2", "olmo2", {"head_dim": LEFT_OUT, "attention_bias": True}),
    Case("granite", "granite", {**_GRANITE, "head_dim": LEFT_OUT, "attention_bias": True, "mlp_bias": True}),
    Case("smollm3", "smollm3", {**_WINDOWED, "head_dim": LEFT_OUT, "no_rope_layers": [1, 0, 1, 0]}),
    Case("smollm3-interval", "smollm3", {"head_dim": LEFT_OUT, "no_rope_layer_interval": 2, "tie_word_embeddings": False}),
    Case("mixtral", "mixtral", {"num_local_experts": 5, "num_experts_per_tok": 2, "sliding_window": 10}),
    Case("qwen2_moe", "qwen2_moe", {**_SHARED, **_WINDOWED, "max_window_layers": 3, "decoder_sparse_step": 2}),
    Case(
        "qwen2_moe-normalised", "qwen2_moe", {**_SHARED, "norm_topk_prob": True, "mlp_only_layers": [0, 2], "qkv_bias": False}
    ),
    Case("qwen3_moe", "qwen3_moe", {**_MOE, **_WINDOWED, "norm_topk_prob": True, "mlp_only_layers": [1]}),
    Case("qwen3_moe-step", "qwen3_moe", {**_MOE, "decoder_sparse_step": 2}),
    Case("olmoe", "olmoe", {**_OLMOE, "clip_qkv": 0.8}),
    Case("olmoe-normalised", "olmoe", {**_OLMOE, "norm_topk_prob": True}),
)


def model_of(case: Case) -> Any:
    """transformers' model with random weights, its norms and biases random too."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(case.config(), dtype=torch.float32, attn_implementation="eager").eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name:
                parameter.add_(0.3 * noise)
            else:
                parameter.copy_(noise * (0.5 if parameter.dim() == 1 else parameter.shape[-1] ** -0.5))
    return model


def save(case: Case, folder: Path) -> Any:
    """Write the checkpoint of `case` into `folder`; transformers' model of it."""
    model = model_of(case)
    model.save_pretrained(folder)
    return model


def tokens(count: int) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (count,), generator=torch.Generator().manual_seed(5))
