"""GGUF tensor names to the names that the same model has in a Hugging Face checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping

_WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_ATTENTION = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
}  # fmt: skip
_PRE_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_POST_NORMS = {"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}
_SANDWICH_NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "pre_feedforward_layernorm", **_POST_NORMS}
_NORMS = {"gemma2": _SANDWICH_NORMS, "gemma3_text": _SANDWICH_NORMS, "olmo2": _POST_NORMS}
_DENSE = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
_ROUTED = {
    "ffn_gate_inp": "mlp.gate", "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj", "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
}  # fmt: skip
_FEED_FORWARD = {
    "phi3": {"ffn_up": "mlp.gate_up_proj", "ffn_down": "mlp.down_proj"},
    "mixtral": {"ffn_gate_inp": "block_sparse_moe.gate"},
    "qwen2_moe": _ROUTED,
    "qwen3_moe": _ROUTED,
    "olmoe": _ROUTED,
}
_STACKED = {"ffn_gate": "gate_proj", "ffn_up": "up_proj", "ffn_down": "down_proj"}
_MIXTRAL = {"ffn_gate": "w1", "ffn_up": "w3", "ffn_down": "w2"}
_BLOCK = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
_EXPERTS = re.compile(r"blk\.(\d+)\.(ffn_gate|ffn_up|ffn_down)(?:_exps|\.(\d+))\.weight")
# Read into the config as rope scaling; no checkpoint of transformers holds them.
IN_CONFIG = frozenset({"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"})


def hugging_face_name(model_type: str, name: str) -> str | None:
    """The name of a tensor that is not an expert's; None when the architecture has no such tensor."""
    stem, _, suffix = name.rpartition(".")
    if stem in _WHOLE:
        return f"{_WHOLE[stem]}.{suffix}"
    match = _BLOCK.fullmatch(name)
    part = _parts(model_type).get(match[2]) if match else None
    return f"model.layers.{int(match[1])}.{part}.{match[3]}" if match and part else None


def expert_names(model_type: str, name: str, count: int) -> dict[str, int] | None:
    """Expert names to their place in the stack of tensor `name`; None when that is no experts' tensor.

    Older files store each expert by itself, at place 0 of its own tensor.
    """
    match = _EXPERTS.fullmatch(name)
    if match is None or "ffn_gate_inp" not in _parts(model_type):
        return None
    block, projection = ("block_sparse_moe", _MIXTRAL) if model_type == "mixtral" else ("mlp", _STACKED)
    prefix, suffix = f"model.layers.{int(match[1])}.{block}.experts", f"{projection[match[2]]}.weight"
    if match[3] is not None:
        return {f"{prefix}.{int(match[3])}.{suffix}": 0}
    return {f"{prefix}.{expert}.{suffix}": expert for expert in range(count)}


def _parts(model_type: str) -> Mapping[str, str]:
    return _ATTENTION | _NORMS.get(model_type, _PRE_NORMS) | _FEED_FORWARD.get(model_type, _DENSE)
