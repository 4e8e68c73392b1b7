"""What a Hugging Face config.json would say of the model in a GGUF file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.errors import BadInput
from core.models.gguf_header import Header

# `general.architecture` to Hugging Face `model_type`.
MODEL_TYPES = {
    "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma2": "gemma2", "gemma3": "gemma3_text", "phi3": "phi3",
    "olmo2": "olmo2", "granite": "granite", "smollm3": "smollm3", "qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe",
    "olmoe": "olmoe",
}  # fmt: skip


@dataclass(frozen=True)
class Metadata:
    """The metadata of a GGUF file under its architecture's prefix, read with types."""

    header: Header

    @property
    def architecture(self) -> str:
        name = self.header.metadata.get("general.architecture")
        if not isinstance(name, str):
            raise BadInput(f"{self.header.path}: general.architecture is missing, so this is not a language model's GGUF file")
        return name

    def whole(self, key: str, default: int | None = None) -> int:
        """A positive whole number (0 only as a default); a list stands for its entry where all are equal."""
        value = self._value(key, default)
        if isinstance(value, np.ndarray) and len(value) and (value == value[0]).all():
            value = value[0].item()
        if isinstance(value, bool) or not isinstance(value, int) or (value < 1 and value != default):
            raise BadInput(f"{self.header.path}: {self.key(key)} is {_shown(value)}, not a positive number for all layers")
        return value

    def real(self, key: str, default: float | None = None) -> float:
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise BadInput(f"{self.header.path}: {self.key(key)} is {_shown(value)}, not a number")
        return float(value)

    def get(self, key: str) -> Any:
        return self.header.metadata.get(self.key(key))

    def key(self, key: str) -> str:
        return f"{self.architecture}.{key}"

    def _value(self, key: str, default: Any) -> Any:
        value = self.header.metadata.get(self.key(key), default)
        if value is None:
            raise BadInput(f"{self.header.path}: the metadata lacks {self.key(key)}")
        return value

    def has(self, tensor: str) -> bool:
        return tensor in self.header.tensors

    def floats(self, tensor: str) -> list[float]:
        """The values of a small float32 tensor."""
        entry = self.header.tensors[tensor]
        if entry.kind != "F32":
            raise BadInput(f"{self.header.path}: tensor {tensor} is stored as {entry.kind}, not F32")
        part = self.header.mapped[entry.start : entry.start + entry.nbytes]
        return [float(value) for value in part.view("<f4")]


def _shown(value: Any) -> str:
    return repr(value)[:80]


def model_type(metadata: Metadata) -> str:
    """Transformers' name of the architecture; unknown ones keep the file's own name."""
    if metadata.architecture == "llama":
        if metadata.whole("expert_count", 0):
            return "mixtral"
        general = (str(metadata.header.metadata.get(f"general.{key}", "")) for key in ("name", "basename"))
        return "mistral" if "mistral" in " ".join(general).lower() else "llama"
    if metadata.architecture == "olmo2" and metadata.get("attention.sliding_window"):
        return "olmo3"
    return MODEL_TYPES.get(metadata.architecture, metadata.architecture)


def config_of(header: Header) -> dict[str, Any]:
    """The config of a model of one of the architectures in MODEL_TYPES; BadInput when metadata is missing or senseless."""
    metadata = Metadata(header)
    kind = model_type(metadata)
    layers, width, heads = (metadata.whole(key) for key in ("block_count", "embedding_length", "attention.head_count"))
    if layers > len(header.tensors):
        raise BadInput(
            f"{header.path}: {metadata.key('block_count')} is {layers}, but the file holds {len(header.tensors)} tensors"
        )
    head_size = metadata.whole("attention.key_length", _default_head_size(metadata, width, heads))
    config: dict[str, Any] = {
        "model_type": kind,
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.whole("attention.head_count_kv", heads),
        "head_dim": head_size,
        "intermediate_size": metadata.whole("feed_forward_length"),
        "vocab_size": _vocabulary(metadata),
        "max_position_embeddings": metadata.whole("context_length"),
        "rms_norm_eps": metadata.real("attention.layer_norm_rms_epsilon"),
        "rope_theta": metadata.real("rope.freq_base", 10000.0),
        "hidden_act": "silu",
        "tie_word_embeddings": not metadata.has("output.weight"),
    }
    config |= _biases(metadata) | _special_tokens(header) | _rope_scaling(metadata, head_size)
    return config | _EXTRAS.get(kind, _nothing)(metadata, config)


def _default_head_size(metadata: Metadata, width: int, heads: int) -> int:
    """Older llama files give the head size only as the rotated part, which is all of it there."""
    rotated = metadata.whole("rope.dimension_count", 0) if metadata.architecture == "llama" else 0
    return rotated or max(1, width // heads)


def _vocabulary(metadata: Metadata) -> int:
    if not metadata.has("token_embd.weight"):
        raise BadInput(f"{metadata.header.path}: tensor token_embd.weight is missing, so this is not a whole language model")
    return metadata.header.tensors["token_embd.weight"].shape[0]


def _biases(metadata: Metadata) -> dict[str, Any]:
    return {"attention_bias": metadata.has("blk.0.attn_q.bias"), "mlp_bias": metadata.has("blk.0.ffn_up.bias")}


def _special_tokens(header: Header) -> dict[str, Any]:
    """Ids of special tokens, None where the file has none: transformers' defaults can lie outside the vocabulary."""
    keys = {"bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "pad_token_id": "padding_token_id"}
    found = {name: header.metadata.get(f"tokenizer.ggml.{key}") for name, key in keys.items()}
    return {name: value if isinstance(value, int) else None for name, value in found.items()}


def _rope_scaling(metadata: Metadata, head_size: int) -> dict[str, Any]:
    """Scaled rotary frequencies, whether the file gives them by name or one factor for each frequency."""
    context = metadata.whole("context_length")
    original = metadata.whole("rope.scaling.original_context_length", context)
    extra: dict[str, Any] = {}
    rotated = metadata.whole("rope.dimension_count", head_size)
    if rotated != head_size:
        extra["partial_rotary_factor"] = rotated / head_size
    scaling: dict[str, Any]
    if metadata.has("rope_factors_long.weight") and metadata.has("rope_factors_short.weight"):
        long, short = (metadata.floats(f"rope_factors_{name}.weight") for name in ("long", "short"))
        scaling = {"rope_type": "longrope", "long_factor": long, "short_factor": short}
        return extra | {"original_max_position_embeddings": original, "rope_scaling": scaling}
    if metadata.has("rope_freqs.weight"):
        factors = metadata.floats("rope_freqs.weight")
        scaling = {"rope_type": "longrope", "long_factor": factors, "short_factor": factors, "attention_factor": 1.0}
        return extra | {"rope_scaling": scaling | {"original_max_position_embeddings": context}}
    kind = metadata.get("rope.scaling.type")
    if kind in ("linear", "yarn"):
        scaling = {"rope_type": kind, "factor": metadata.real("rope.scaling.factor")}
        scaling |= {"original_max_position_embeddings": original} if kind == "yarn" else {}
        return extra | {"rope_scaling": scaling}
    if kind not in (None, "none", "longrope"):
        raise BadInput(f"{metadata.header.path}: rope scaling {_shown(kind)} is not known here; linear, yarn and longrope are")
    return extra


def _nothing(_metadata: Metadata, _config: dict[str, Any]) -> dict[str, Any]:
    return {}


def _gemma2(metadata: Metadata, config: dict[str, Any]) -> dict[str, Any]:
    layers = range(config["num_hidden_layers"])
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": _query_scalar(config, largest=46),
        "attn_logit_softcapping": metadata.real("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": metadata.real("final_logit_softcapping", 30.0),
        "sliding_window": metadata.whole("attention.sliding_window", 4096),
        "layer_types": ["full_attention" if layer % 2 else "sliding_attention" for layer in layers],
    }


def _gemma3(metadata: Metadata, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": _query_scalar(config, largest=62),
        "rope_theta": metadata.real("rope.freq_base", 1_000_000.0),
        "rope_local_base_freq": metadata.real("rope.freq_base_swa", 10000.0),
        "sliding_window": metadata.whole("attention.sliding_window"),
        "layer_types": [
            "sliding_attention" if (layer + 1) % 6 else "full_attention" for layer in range(config["num_hidden_layers"])
        ],
    }


def _query_scalar(config: dict[str, Any], largest: int) -> int:
    """Queries are scaled by the head size, but by width / heads in the 27B models, which their layer count tells."""
    by_width = config["num_hidden_layers"] == largest
    return int(config["hidden_size"] // config["num_attention_heads"] if by_width else config["head_dim"])


def _phi3(metadata: Metadata, _config: dict[str, Any]) -> dict[str, Any]:
    return {"sliding_window": metadata.whole("attention.sliding_window", 0) or None}


def _granite(metadata: Metadata, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "attention_multiplier": metadata.real("attention.scale", config["head_dim"] ** -0.5),
        "embedding_multiplier": metadata.real("embedding_scale", 1.0),
        "residual_multiplier": metadata.real("residual_scale", 1.0),
        "logits_scaling": metadata.real("logit_scale", 1.0),
    }


def _smollm3(_metadata: Metadata, config: dict[str, Any]) -> dict[str, Any]:
    layers = range(config["num_hidden_layers"])
    return {"no_rope_layer_interval": 4, "no_rope_layers": [int((layer + 1) % 4 != 0) for layer in layers]}


def _experts(count_key: str, normalise: bool) -> Callable[[Metadata, dict[str, Any]], dict[str, Any]]:
    def extras(metadata: Metadata, config: dict[str, Any]) -> dict[str, Any]:
        count, used = metadata.whole("expert_count"), metadata.whole("expert_used_count")
        if used > count or count > 4096:
            raise BadInput(f"{metadata.header.path}: {used} of {count} experts used is not possible")
        width = metadata.whole("expert_feed_forward_length", config["intermediate_size"])
        return {
            count_key: count,
            "num_experts_per_tok": used,
            "norm_topk_prob": normalise,
            "moe_intermediate_size": width,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        }

    return extras


def _qwen2_moe(metadata: Metadata, config: dict[str, Any]) -> dict[str, Any]:
    shared = metadata.whole("expert_shared_feed_forward_length", 0)
    if not shared and metadata.has("blk.0.ffn_up_shexp.weight"):
        shared = metadata.header.tensors["blk.0.ffn_up_shexp.weight"].shape[0]
    return _experts("num_experts", False)(metadata, config) | {"shared_expert_intermediate_size": shared}


_EXTRAS: dict[str, Callable[[Metadata, dict[str, Any]], dict[str, Any]]] = {
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "phi3": _phi3,
    "granite": _granite,
    "smollm3": _smollm3,
    "mixtral": _experts("num_local_experts", True),
    "qwen2_moe": _qwen2_moe,
    "qwen3_moe": _experts("num_experts", True),
    "olmoe": _experts("num_experts", False),
}
