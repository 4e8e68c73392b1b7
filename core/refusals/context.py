"""Rules of attention, heads and caches: what earlier tokens leave behind, and who can look at it."""

from __future__ import annotations

from collections.abc import Iterator

from core.attention.states import keeps_state
from core.config import RunConfig
from core.decoder.architectures import norm_place
from core.errors import BadInput
from core.heads.table import possible_kv_heads
from core.layers import parse_layers
from core.models.adapters import adapter_of
from core.models.info import ModelInfo
from core.refusals.refusal import ModelRule, Refusal, Rule

# Why a draft cannot be taken back.
_FORGETS = {
    "rolling": "the rolling cache has already overwritten what stood in its place",
    "h2o": "the h2o cache forgets what got the least attention, which the draft had a part in",
    "sinks": "the ring behind the sinks has already overwritten what stood in its place",
}


def _speculation_needs_a_cache_that_rewinds(config: RunConfig) -> Iterator[Refusal]:
    if config.decoding.name != "autoregressive" and config.cache.name in _FORGETS:
        reason = (
            f"a rejected draft must be taken back, and {_FORGETS[config.cache.name]}; use cache.name=dynamic, static or off"
        )
        yield Refusal("decoding", config.decoding.name, reason)


# What attention that keeps a state of its own cannot give to these caches in its layers.
_SERVES_SOFTMAX = {
    "sinks": "the sinks cache turns sinks and queries to positions of its own",
    "quantized": "the quantized cache codes the keys of every layer",
    "h2o": "the h2o cache must be told of all attention weights",
    "snapkv": "the snapkv cache must be told of the attention weights of the prompt",
}


def _caches_that_need_softmax_have_it(config: RunConfig) -> Iterator[Refusal]:
    name = config.cache.name
    if name in _SERVES_SOFTMAX and keeps_state(config.attention):
        reason = f"{_SERVES_SOFTMAX[name]}, which {config.attention.name} does not provide for"
        yield Refusal("cache", name, f"{reason}; use cache.name=dynamic, or attention.name=full")


def _sinks_are_chosen_once(config: RunConfig) -> Iterator[Refusal]:
    if config.cache.name == "sinks" and config.attention.name == "sink_window":
        reason = "the sinks cache already keeps sinks and a window, at positions of its own"
        yield Refusal("attention", "sink_window", f"{reason}; use attention.name=full, or cache.name=dynamic")


def _recent_tokens_fit_the_budget(config: RunConfig) -> Iterator[Refusal]:
    options = config.cache.options
    if config.cache.name == "h2o" and 1 < options.budget <= options.recent:
        reason = f"cache.recent={options.recent:g} leaves no room for others in cache.budget={options.budget:g}"
        yield Refusal("cache", "h2o", f"{reason}; lower it, or use cache.name=rolling")


_KNOWS_KEYS = {
    "sinks": "turns keys to other positions",
    "h2o": "drops tokens of each KV head by itself",
    "snapkv": "drops tokens of each KV head by itself",
}


def _latents_need_a_cache_that_takes_any_numbers(config: RunConfig) -> Iterator[Refusal]:
    if config.heads.name == "latent_kv" and config.cache.name in _KNOWS_KEYS:
        reason = (
            f"a latent becomes the keys and values of all heads only when it is looked at, and the {config.cache.name} cache "
            f"{_KNOWS_KEYS[config.cache.name]}; use cache.name=dynamic, static, rolling or quantized"
        )
        yield Refusal("heads", "latent_kv", reason)


def _rows_divide_blocks(config: RunConfig) -> Iterator[Refusal]:
    options = config.attention.options
    if config.attention.name == "linformer" and options.block % options.rank:
        reason = f"attention.rank={options.rank} does not divide attention.block={options.block}"
        yield Refusal("attention", "linformer", reason)


_WHOLE_CACHES = ("dynamic", "static", "off")


def _states_leave_no_keys_to_a_cache_policy(config: RunConfig, info: ModelInfo) -> Iterator[Refusal]:
    name, options = config.attention.name, config.attention.options
    if not keeps_state(config.attention) or config.cache.name in _WHOLE_CACHES:
        return
    try:
        everywhere = len(parse_layers(options.layers, info.layers)) == info.layers
    except BadInput:
        return  # refused elsewhere
    if everywhere:
        reason = f"{name} keeps a state in every layer and caches no keys that {config.cache.name} could hold"
        yield Refusal("cache", config.cache.name, f"{reason}; use cache.name=dynamic, or fewer attention.layers")


def _feature_maps_are_trained(config: RunConfig, info: ModelInfo) -> Iterator[Refusal]:
    if config.attention.name != "linear_learned":
        return
    if config.heads.name != "as_trained":
        reason = f"its feature maps belong to the model's own heads, which heads.name={config.heads.name} changes"
        yield Refusal("attention", "linear_learned", f"{reason}; use heads.name=as_trained")
    try:
        adapter_of("linear_learned", info, config.attention.options.adapter)
    except BadInput as error:
        yield Refusal("attention", "linear_learned", str(error))


def _kv_heads_divide(config: RunConfig, info: ModelInfo) -> Iterator[Refusal]:
    if config.heads.name != "kv_sharing":
        return
    kv, own, queries = config.heads.options.kv_heads, info.kv_heads, info.query_heads
    if queries % kv:
        reason = f"heads.kv_heads={kv} does not divide the model's {queries} query heads; {_fitting(queries, own)}"
        yield Refusal("heads", "kv_sharing", reason)
    elif kv % own and own % kv:
        reason = f"heads.kv_heads={kv} is no multiple and no divisor of the model's {own} KV heads; {_fitting(queries, own)}"
        yield Refusal("heads", "kv_sharing", reason)


def _repair_needs_a_plain_output(config: RunConfig, info: ModelInfo) -> Iterator[Refusal]:
    if config.heads.name == "kv_sharing" and config.heads.options.repair and norm_place(info.architecture) != "pre":
        reason = f"{info.architecture} norms what W_o gives, so that it cannot be fitted alone; use heads.repair=false"
        yield Refusal("heads", "kv_sharing", reason)


def _fitting(queries: int, own: int) -> str:
    return f"possible are {', '.join(map(str, possible_kv_heads(queries, own)))}"


def _latents_are_no_larger_than_keys_and_values(config: RunConfig, info: ModelInfo) -> Iterator[Refusal]:
    if config.heads.name == "latent_kv" and config.heads.options.rank > _kv_numbers(info):
        reason = (
            f"heads.rank={config.heads.options.rank} is more than the {_kv_numbers(info)} numbers of the keys and values of a "
            f"token in each layer of {info.name}"
        )
        yield Refusal("heads", "latent_kv", reason)


def _kv_numbers(info: ModelInfo) -> int:
    return 2 * info.kv_heads * info.head_size


ANY_MODEL: tuple[Rule, ...] = (
    _speculation_needs_a_cache_that_rewinds,
    _caches_that_need_softmax_have_it,
    _sinks_are_chosen_once,
    _recent_tokens_fit_the_budget,
    _latents_need_a_cache_that_takes_any_numbers,
    _rows_divide_blocks,
)
ONE_MODEL: tuple[ModelRule, ...] = (
    _states_leave_no_keys_to_a_cache_policy,
    _feature_maps_are_trained,
    _kv_heads_divide,
    _repair_needs_a_plain_output,
    _latents_are_no_larger_than_keys_and_values,
)
