"""What distinguishes one Llama-shaped architecture from another, read from its Hugging Face config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from core.decoder.architectures import NormPlace, norm_place
from core.decoder.defaults import completed
from core.errors import BadInput

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding of a layer.

    scaling: the parameters of a kind other than default, as sorted pairs, with the model's context under `context`.
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
    norm_place: NormPlace = "pre"
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
    """The traits of a Hugging Face config of transformers 4 or 5; keys left out take their family's defaults.

    Raises BadInput when the architecture, or something the config asks of it, is not known here.
    """
    kind = str(config.get("model_type", "?"))
    if kind not in _TABLE:
        raise BadInput(
            f"architecture {kind!r} is not known to the local engine, which runs {', '.join(sorted(_TABLE))}; "
            "set engine.name=transformers"
        )
    config = completed(config, kind)
    return _TABLE[kind](config, _common(config, kind))


def _common(config: Config, kind: str) -> Traits:
    layers, heads = int(config["num_hidden_layers"]), int(config["num_attention_heads"])
    size = int(config["head_dim"] or config["hidden_size"] // heads)
    layer_types = _layer_types(config, kind, layers)
    return Traits(
        architecture=kind,
        layers=layers,
        width=int(config["hidden_size"]),
        query_heads=heads,
        kv_heads=int(config["num_key_value_heads"] or heads),
        head_size=size,
        ffn_width=int(config["intermediate_size"]),
        vocabulary=int(config["vocab_size"]),
        context=int(config["max_position_embeddings"]),
        eps=float(config["rms_norm_eps"]),
        ropes=tuple(_rope(config, kind, layer_type, size) for layer_type in layer_types),
        windows=_windows(config, layer_types),
        experts=(None,) * layers,
        attention_scale=size**-0.5,
        norm_place=norm_place(kind),
        tied_head=bool(config["tie_word_embeddings"]),
        activation=_activation(config),
    )


def _activation(config: Config) -> Literal["silu", "gelu_tanh"]:
    name = config.get("hidden_activation") or config["hidden_act"]
    if name in ("silu", "swish"):
        return "silu"
    if name in ("gelu_pytorch_tanh", "gelu_new"):
        return "gelu_tanh"
    raise BadInput(f"activation {name!r} is not known to the local engine; set engine.name=transformers")


def _layer_types(config: Config, kind: str, layers: int) -> tuple[str, ...]:
    """`full_attention` or `sliding_attention` for each layer."""
    if kind in _ALL_SLIDE:
        return (_SLIDING if _window(config) else _FULL,) * layers
    if config.get("layer_types") and kind not in _NEVER_SLIDE:
        return tuple(map(_known_type, config["layer_types"]))
    slides = _SLIDES.get(kind, _never)
    return tuple(_SLIDING if slides(config, layer) else _FULL for layer in range(layers))


def _known_type(name: str) -> str:
    if name not in (_SLIDING, _FULL):
        raise BadInput(f"layers of type {name!r} are not known to the local engine; set engine.name=transformers")
    return name


_SLIDING, _FULL = "sliding_attention", "full_attention"
_ALL_SLIDE = frozenset({"mistral", "mixtral", "phi3", "qwen3_moe"})  # all layers or none
_NEVER_SLIDE = frozenset({"llama", "granite", "olmo2", "olmoe"})


def _never(_config: Config, _layer: int) -> bool:
    return False


def _upper_layers(config: Config, layer: int) -> bool:
    return _window(config) is not None and layer >= int(config["max_window_layers"])


def _nope_layers(config: Config, layer: int) -> bool:
    return _window(config) is not None and not _rotated(config, layer)


_SLIDES: dict[str, Callable[[Config, int], bool]] = {
    "gemma2": lambda _config, layer: layer % 2 == 0,
    "gemma3_text": lambda config, layer: (layer + 1) % int(config["sliding_window_pattern"]) != 0,
    "qwen2": _upper_layers,
    "qwen3": _upper_layers,
    "qwen2_moe": lambda config, layer: layer % 2 == 0 and _window(config) is not None and not _upper_layers(config, layer),
    "smollm3": _nope_layers,
}


def _window(config: Config) -> int | None:
    window = config["sliding_window"]
    return int(window) if window and config.get("use_sliding_window", True) else None


def _windows(config: Config, layer_types: tuple[str, ...]) -> tuple[int | None, ...]:
    return tuple(_window(config) if layer_type == _SLIDING else None for layer_type in layer_types)


def _rope(config: Config, kind: str, layer_type: str, size: int) -> Rope:
    parameters = _rope_parameters(config, kind, layer_type)
    theta = float(parameters.get("rope_theta") or config["rope_theta"])
    rotated = int(size * float(parameters.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0))
    name = str(parameters.get("rope_type") or parameters.get("type") or "default")
    if kind == "phi3" and name in ("su", "yarn"):
        name = "longrope"  # what early phi3 configs called it
    if name == "default":
        return Rope(theta, rotated)
    original = config.get("original_max_position_embeddings") or parameters.get("original_max_position_embeddings")
    context = int(config["max_position_embeddings"])
    scaling = {**parameters, "context": context, "original_max_position_embeddings": int(original or context)}
    return Rope(theta, rotated, name, tuple(sorted((key, _frozen(value)) for key, value in scaling.items())))


def _rope_parameters(config: Config, kind: str, layer_type: str) -> Config:
    """`rope_parameters` of transformers 5, for all layers or by layer type, or `rope_scaling` of transformers 4."""
    given = config.get("rope_parameters") or {}
    if kind != "gemma3_text":
        given = config.get("rope_scaling") or given
        return given.get(layer_type) or given
    if layer_type == _SLIDING:
        return {"rope_theta": config["rope_local_base_freq"], **(given.get(_SLIDING) or {})}
    return {**(given.get(_FULL) or {}), **(config.get("rope_scaling") or {})}


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _rotated(config: Config, layer: int) -> bool:
    """Whether a smollm3 layer has rotary positions."""
    flags = config["no_rope_layers"]
    return bool(flags[layer]) if flags else (layer + 1) % int(config["no_rope_layer_interval"]) != 0


def _experts(config: Config, traits: Traits, width: int, normalise: bool, shared: int = 0) -> Traits:
    count = int(config.get("num_local_experts") or config["num_experts"])
    block = Experts(count, int(config["num_experts_per_tok"]), width, normalise, shared)
    step, dense = int(config["decoder_sparse_step"]), config["mlp_only_layers"] or []
    sparse = (layer not in dense and (layer + 1) % step == 0 for layer in range(traits.layers))
    return replace(traits, experts=tuple(block if is_sparse else None for is_sparse in sparse))


def _plain(_config: Config, traits: Traits) -> Traits:
    return traits


def _qwen3(_config: Config, traits: Traits) -> Traits:
    return replace(traits, qk_norm="head")


def _gemma2(config: Config, traits: Traits) -> Traits:
    return replace(
        traits,
        norm_offset=1.0,
        embed_scale=traits.width**0.5,
        attention_scale=float(config["query_pre_attn_scalar"]) ** -0.5,
        attention_cap=float(config.get("attn_logit_softcapping") or 0.0),
        logit_cap=float(config["final_logit_softcapping"] or 0.0),
    )


def _gemma3(config: Config, traits: Traits) -> Traits:
    if config["use_bidirectional_attention"]:
        raise BadInput("this gemma3 model attends in both directions, as embedding models do, so it cannot generate text")
    return replace(_gemma2(config, traits), qk_norm="head", attention_cap=0.0)


def _olmo2(_config: Config, traits: Traits) -> Traits:
    return replace(traits, qk_norm="row")


def _granite(config: Config, traits: Traits) -> Traits:
    return replace(
        traits,
        embed_scale=float(config["embedding_multiplier"]),
        residual_scale=float(config["residual_multiplier"]),
        attention_scale=float(config["attention_multiplier"]),
        logit_scale=1.0 / float(config["logits_scaling"]),
    )


def _smollm3(config: Config, traits: Traits) -> Traits:
    return replace(traits, ropes=tuple(rope if _rotated(config, layer) else None for layer, rope in enumerate(traits.ropes)))


def _mixtral(config: Config, traits: Traits) -> Traits:
    return _experts(config, traits, traits.ffn_width, normalise=True)


def _qwen2_moe(config: Config, traits: Traits) -> Traits:
    shared = int(config["shared_expert_intermediate_size"])
    return _experts(config, traits, int(config["moe_intermediate_size"]), bool(config["norm_topk_prob"]), shared)


def _qwen3_moe(config: Config, traits: Traits) -> Traits:
    traits = replace(traits, qk_norm="head")
    return _experts(config, traits, int(config["moe_intermediate_size"]), bool(config["norm_topk_prob"]))


def _olmoe(config: Config, traits: Traits) -> Traits:
    traits = replace(traits, qk_norm="row", clip_qkv=float(config["clip_qkv"] or 0.0))
    return _experts(config, traits, traits.ffn_width, bool(config["norm_topk_prob"]))


_TABLE: dict[str, Callable[[Config, Traits], Traits]] = {
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
