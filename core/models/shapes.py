"""The shape that each tensor must have for the sizes in a model's config."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import BadInput

_EXPERT = re.compile(r"\.(?:experts\.\d+|experts)\.")


def check_shape(path: str | Path, name: str, shape: tuple[int, ...], config: Mapping[str, Any]) -> None:
    """BadInput when tensor `name` of the model at `path` does not fit the other sizes of the model."""
    part, _, suffix = name.rpartition(".")
    expected = _matrices(config, name).get(part.rpartition(".")[2])
    if expected is None or suffix not in ("weight", "bias"):
        return
    if shape != (expected if suffix == "weight" else expected[:1]):
        raise BadInput(f"{path}: tensor {name} has shape {list(shape)}, but the model's sizes ask for {list(expected)}")


def _matrices(config: Mapping[str, Any], name: str) -> dict[str, tuple[int, ...]]:
    """The last part of a name to [out, in]."""
    C, H = config["hidden_size"], config["num_attention_heads"]
    G, D = config.get("num_key_value_heads") or H, config.get("head_dim") or C // H
    F, V = _ffn_width(config, name), config["vocab_size"]
    return {
        "embed_tokens": (V, C), "lm_head": (V, C), "norm": (C,), "input_layernorm": (C,),
        "post_attention_layernorm": (C,), "pre_feedforward_layernorm": (C,), "post_feedforward_layernorm": (C,),
        "q_proj": (H * D, C), "k_proj": (G * D, C), "v_proj": (G * D, C), "o_proj": (C, H * D),
        "qkv_proj": ((H + 2 * G) * D, C), "gate_proj": (F, C), "up_proj": (F, C), "down_proj": (C, F),
        "gate_up_proj": (2 * F, C), "w1": (F, C), "w3": (F, C), "w2": (C, F),
    }  # fmt: skip


def _ffn_width(config: Mapping[str, Any], name: str) -> int:
    width = config["intermediate_size"]
    if ".shared_expert." in name:
        width = config.get("shared_expert_intermediate_size") or width
    elif _EXPERT.search(name):
        width = config.get("moe_intermediate_size") or width
    return int(width)
