"""Tiny random models of every architecture, and the GGUF files that a converter would make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import MODEL_ARCH, GGUFWriter, get_tensor_name_map
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

COMMON = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "decoder_sparse_step": 1}
MODELS: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": False},
    "mistral": {"sliding_window": None},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {},
    "gemma2": {"query_pre_attn_scalar": 8, "sliding_window": 16},
    "gemma3_text": {"query_pre_attn_scalar": 8, "sliding_window": 16, "num_hidden_layers": 7},
    "phi3": {"sliding_window": 16, "tie_word_embeddings": False},
    "olmo2": {},
    "granite": {
        "attention_multiplier": 0.3, "embedding_multiplier": 3.0, "residual_multiplier": 0.5, "logits_scaling": 4.0
    },
    "smollm3": {"num_hidden_layers": 5},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 48},
    "qwen3_moe": {**EXPERTS, "norm_topk_prob": True},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": False},
}  # fmt: skip
GGUF_NAMES = {
    "mistral": "llama", "mixtral": "llama", "gemma3_text": "gemma3", "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe"
}  # fmt: skip
_PERMUTED = ("llama", "mistral", "mixtral", "granite", "smollm3")


def tiny_model(kind: str, **changes: Any) -> PreTrainedModel:
    """A random model of architecture `kind` in float32, with norms that are not all ones."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**COMMON, **MODELS[kind], **changes})
    model = AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "bias" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    return model


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.arange(3, 40)[None]).logits[0]


def write_gguf(path: Path, model: PreTrainedModel, folder: Path) -> dict[str, torch.Tensor]:
    """Save `model` in `folder` and convert that to a GGUF file; returns the tensors of the folder."""
    model.save_pretrained(folder)
    tensors = {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
    kind, config = model.config.model_type, model.config
    architecture = GGUF_NAMES.get(kind, kind)
    writer = GGUFWriter(path, architecture)
    _write_sizes(writer, kind, config)
    names = get_tensor_name_map(next(a for a in MODEL_ARCH if a.name.lower() == architecture), config.num_hidden_layers)
    stacks: dict[str, dict[int, np.ndarray]] = {}
    for name, tensor in tensors.items():
        values = _converted(kind, config, name, tensor).numpy()
        stem, suffix = name.rsplit(".", 1)
        if ".experts." in name:
            before, after = stem.split(".experts.")
            expert, projection = after.split(".")
            stacks.setdefault(f"{before}.experts.{projection}", {})[int(expert)] = values
        else:
            writer.add_tensor(f"{names.get_name(stem)}.{suffix}", values)
    for stem, stack in stacks.items():
        writer.add_tensor(f"{names.get_name(stem)}.weight", np.stack([stack[index] for index in sorted(stack)]))
    finish(writer)
    return tensors


def finish(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_sizes(writer: GGUFWriter, kind: str, config: Any) -> None:
    writer.add_name(f"Tiny {kind}")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    parameters = config.rope_parameters
    writer.add_rope_freq_base(parameters.get("full_attention", parameters)["rope_theta"])
    if getattr(config, "sliding_window", None):
        writer.add_sliding_window(config.sliding_window)
    if kind in ("gemma2", "gemma3_text"):
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping or 50.0)
        writer.add_final_logit_softcapping(config.final_logit_softcapping or 30.0)
    if kind == "granite":
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)
    experts = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
    if kind in ("qwen2_moe", "qwen3_moe"):
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    if kind == "qwen2_moe":
        writer.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)


def _converted(kind: str, config: Any, name: str, tensor: torch.Tensor) -> torch.Tensor:
    """What the converter does to a tensor: rows of Q and K as pairs, gemma's norms plus one."""
    if kind in _PERMUTED and ("q_proj" in name or "k_proj" in name):
        heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
        halves = tensor.reshape(heads, 2, len(tensor) // heads // 2, *tensor.shape[1:])
        return halves.swapaxes(1, 2).reshape(tensor.shape)
    if kind.startswith("gemma") and name.endswith("norm.weight"):
        return tensor + 1
    return tensor[0] if name.endswith("shared_expert_gate.weight") else tensor
