"""What distinguishes one Llama-shaped architecture from another, read from its Hugging Face config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from core.errors import BadInput

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding of a layer.

    scaling: the config's rope parameters as sorted pairs, for other kinds than default.
    """

    theta: float
    size: int  # rotated values of each head, ≤ D
    kind: str = "default"
    scaling: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Experts:
    """A mixture-of-experts block: E experts of `width`, K of them a token."""

    count: int
    used: int
    width: int
    normalise: bool  # router weights of the K experts sum to one
    shared_width: int = 0  # an expert every token uses, behind a sigmoid gate


@dataclass(frozen=True)
class Traits:
    """The shape of a model and the choices its family makes. Sequences over layers have L entries."""

    architecture: str
    layers: int
    width: int
    query_heads: int
    kv_heads: int
    head_size: int
    ffn_width: int
    vocabulary: int
    context: int
    eps: float
    ropes: tuple[Rope | None, ...]
    windows: tuple[int | None, ...]
    experts: tuple[Experts | None, ...]
    attention_scale: float
    tied_head: bool = False
    norm_place: Literal["pre", "post", "sandwich"] = "pre"
    norm_offset: float = 0.0  # gemma stores norm weights less one
    qk_norm: Literal["none", "head", "row"] = "none"
    activation: Literal["silu", "gelu_tanh"] = "silu"
    embed_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    attention_cap: float = 0.0
    logit_cap: float = 0.0
    clip_qkv: float = 0.0


def traits_of(config: Config) -> Traits:
    """The traits of a Hugging Face config; BadInput when the architecture is not in the table."""
    kind = str(config.get("model_type", "?"))
    if kind not in _TABLE:
        raise BadInput(
            f"architecture {kind!r} is not known to the local engine, which runs {', '.join(sorted(_TABLE))}; "
            "set engine.name=transformers"
        )
    return _TABLE[kind](config, _common(config, kind))


def _common(config: Config, kind: str) -> Traits:
    layers, heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
    size = int(config.get("head_dim") or config["hidden_size"] // heads)
    ropes = tuple(_rope(config, layer_type, size) for layer_type in _layer_types(config, layers))
    return Traits(
        architecture=kind,
        layers=layers,
        width=int(config["hidden_size"]),
        query_heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_size=size,
        ffn_width=int(config["intermediate_size"]),
        vocabulary=int(config["vocab_size"]),
        context=int(config.get("max_position_embeddings", 2048)),
        eps=float(config.get("rms_norm_eps", 1e-6)),
        ropes=ropes,
        windows=_windows(config, layers),
        experts=(None,) * layers,
        attention_scale=size**-0.5,
        tied_head=bool(config.get("tie_word_embeddings", kind in _TIED)),
    )


def _layer_types(config: Config, layers: int) -> tuple[str, ...]:
    """`full_attention` or `sliding_attention` for each layer."""
    if config.get("layer_types"):
        return tuple(config["layer_types"])
    kind, window = config.get("model_type"), config.get("sliding_window")
    if kind == "gemma2":
        return tuple("full_attention" if layer % 2 else "sliding_attention" for layer in range(layers))
    if kind == "gemma3_text":
        every = int(config.get("sliding_window_pattern", 6))
        return tuple("sliding_attention" if (layer + 1) % every else "full_attention" for layer in range(layers))
    if kind in ("mistral", "mixtral", "phi3") and window:
        return ("sliding_attention",) * layers
    if config.get("use_sliding_window") and window:
        first = int(config.get("max_window_layers", layers))
        return tuple("sliding_attention" if layer >= first else "full_attention" for layer in range(layers))
    return ("full_attention",) * layers


def _windows(config: Config, layers: int) -> tuple[int | None, ...]:
    window = config.get("sliding_window")
    sliding = (kind == "sliding_attention" for kind in _layer_types(config, layers))
    return tuple(int(window) if slides and window else None for slides in sliding)


def _rope(config: Config, layer_type: str, size: int) -> Rope:
    parameters: Config = config.get("rope_parameters") or config.get("rope_scaling") or {}
    parameters = parameters.get(layer_type, parameters)
    theta = parameters.get("rope_theta") or config.get("rope_theta", 10000.0)
    if layer_type == "sliding_attention" and "rope_local_base_freq" in config:
        theta, parameters = config["rope_local_base_freq"], {}
    partial = parameters.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    scaling = () if kind == "default" else tuple(sorted((k, _frozen(v)) for k, v in parameters.items()))
    return Rope(float(theta), int(size * partial), kind, scaling)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _experts(config: Config, traits: Traits, width: int, normalise: bool, shared: int = 0) -> Traits:
    count = int(config.get("num_local_experts") or config["num_experts"])
    block = Experts(count, int(config["num_experts_per_tok"]), width, normalise, shared)
    step, dense = int(config.get("decoder_sparse_step", 1)), config.get("mlp_only_layers") or []
    sparse = (layer not in dense and (layer + 1) % step == 0 for layer in range(traits.layers))
    return replace(traits, experts=tuple(block if is_sparse else None for is_sparse in sparse))


def _plain(_config: Config, traits: Traits) -> Traits:
    return traits


def _qwen3(_config: Config, traits: Traits) -> Traits:
    return replace(traits, qk_norm="head")


def _gemma2(config: Config, traits: Traits) -> Traits:
    return replace(
        traits,
        norm_place="sandwich",
        norm_offset=1.0,
        activation="gelu_tanh",
        embed_scale=traits.width**0.5,
        attention_scale=float(config.get("query_pre_attn_scalar", 256)) ** -0.5,
        attention_cap=float(config.get("attn_logit_softcapping") or 0.0),
        logit_cap=float(config.get("final_logit_softcapping") or 0.0),
    )


def _gemma3(config: Config, traits: Traits) -> Traits:
    return replace(_gemma2(config, traits), qk_norm="head")


def _olmo2(_config: Config, traits: Traits) -> Traits:
    return replace(traits, norm_place="post", qk_norm="row")


def _granite(config: Config, traits: Traits) -> Traits:
    return replace(
        traits,
        embed_scale=float(config.get("embedding_multiplier", 1.0)),
        residual_scale=float(config.get("residual_multiplier", 1.0)),
        attention_scale=float(config.get("attention_multiplier", 1.0)),
        logit_scale=1.0 / float(config.get("logits_scaling", 1.0)),
    )


def _smollm3(config: Config, traits: Traits) -> Traits:
    every = int(config.get("no_rope_layer_interval", 4))
    rotated = config.get("no_rope_layers") or [(layer + 1) % every for layer in range(traits.layers)]
    return replace(traits, ropes=tuple(rope if flag else None for rope, flag in zip(traits.ropes, rotated, strict=True)))


def _mixtral(config: Config, traits: Traits) -> Traits:
    return _experts(config, traits, traits.ffn_width, normalise=True)


def _qwen2_moe(config: Config, traits: Traits) -> Traits:
    shared = int(config.get("shared_expert_intermediate_size", 0))
    return _experts(config, traits, int(config["moe_intermediate_size"]), bool(config.get("norm_topk_prob")), shared)


def _qwen3_moe(config: Config, traits: Traits) -> Traits:
    traits = replace(traits, qk_norm="head")
    return _experts(config, traits, int(config["moe_intermediate_size"]), bool(config.get("norm_topk_prob")))


def _olmoe(config: Config, traits: Traits) -> Traits:
    traits = replace(traits, qk_norm="row", clip_qkv=float(config.get("clip_qkv") or 0.0))
    return _experts(config, traits, traits.ffn_width, bool(config.get("norm_topk_prob")))


_TIED = frozenset({"gemma2", "gemma3_text", "smollm3"})
_TABLE = {
    "llama": _plain,
    "mistral": _plain,
    "qwen2": _plain,
    "phi3": _plain,
    "qwen3": _qwen3,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "olmo2": _olmo2,
    "granite": _granite,
    "smollm3": _smollm3,
    "mixtral": _mixtral,
    "qwen2_moe": _qwen2_moe,
    "qwen3_moe": _qwen3_moe,
    "olmoe": _olmoe,
}
