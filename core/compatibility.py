"""Which techniques can work together on which model, said before a run. Free of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from core.attention.states import keeps_state
from core.config import Choice, RunConfig
from core.cuda.found import missing
from core.cuda.support import lacks
from core.errors import BadInput
from core.layers import parse_layers
from core.models.adapters import adapter_of
from core.models.info import ModelInfo
from core.techniques import CATALOGUE


@dataclass(frozen=True)
class Refusal:
    """Why the technique `name` of `family` cannot run as the configuration stands. reason: one sentence without a full stop."""

    family: str
    name: str
    reason: str


def refusals(config: RunConfig, info: ModelInfo | None) -> list[Refusal]:
    """Everything that stands against running `config`; rules that need a model are left out without `info`."""
    found = [refusal for rule in _ANY_MODEL for refusal in rule(config)]
    if info is not None:
        found += [refusal for rule in _ONE_MODEL for refusal in rule(config, info)]
    return found


def refuse(config: RunConfig, info: ModelInfo | None) -> None:
    """Raise BadInput with the first refusal, if there is one."""
    for refusal in refusals(config, info):
        raise BadInput(f"{refusal.family}.name={refusal.name}: {refusal.reason}")


def refused_techniques(config: RunConfig, info: ModelInfo | None) -> dict[tuple[str, str], str]:
    """For every technique that cannot be chosen with the rest of `config` as it is: why.

    Options are the config's own where the technique is chosen, else the first that fit the model (see `fitted`).
    """
    return {
        (family, name): reason
        for family, rows in CATALOGUE.items()
        for name, reason in _refused_in(config, family, tuple(rows), info).items()
    }


def _refused_in(config: RunConfig, family: str, names: tuple[str, ...], info: ModelInfo | None) -> dict[str, str]:
    """The names of one family that bring a refusal which another name of the family would not."""
    tried = {
        name: refusals(config if config.choice(family).name == name else with_technique(config, family, name, info), info)
        for name in names
    }
    always = set.intersection(*map(set, tried.values()))
    own = {name: [refusal for refusal in found if refusal not in always] for name, found in tried.items()}
    return {name: min(found, key=lambda refusal: refusal.family != family).reason for name, found in own.items() if found}


def with_technique(config: RunConfig, family: str, name: str, info: ModelInfo | None) -> RunConfig:
    """`config` with another technique in one family, its options fitted to the model."""
    choice: Any = fitted(Choice(family, name, CATALOGUE[family][name].options()), info)
    return replace(config, **{family: choice})


def fitted(choice: Choice, info: ModelInfo | None) -> Choice:
    """`choice` with default options that the model's shape rules out brought to the nearest possible ones."""
    options = choice.options
    if info is None:
        return choice
    if choice.name == "moefy" and info.ffn_width % options.experts:
        experts = next(n for n in range(options.experts, 0, -1) if info.ffn_width % n == 0)
        options = replace(options, experts=experts, top_k=min(options.top_k, experts))
    if choice.name == "latent_kv" and options.rank > _kv_numbers(info):
        options = replace(options, rank=_kv_numbers(info) // 2)
    if choice.name == "experts" and info.experts:
        options = replace(options, top_k=min(options.top_k, info.experts))
    return replace(choice, options=options)


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
    if config.heads.name == "latent_kv" and keeps_state(config.attention):
        reason = f"{config.attention.name} keeps a state in place of a cache, and there is nothing for a latent to stand for"
        yield Refusal("heads", "latent_kv", f"{reason}; use attention.name=full or heads.name=as_trained")


def _rows_divide_blocks(config: RunConfig) -> Iterator[Refusal]:
    options = config.attention.options
    if config.attention.name == "linformer" and options.block % options.rank:
        reason = f"attention.rank={options.rank} does not divide attention.block={options.block}"
        yield Refusal("attention", "linformer", reason)


def _moefy_uses_no_more_experts_than_it_has(config: RunConfig) -> Iterator[Refusal]:
    options = config.ffn.options
    if config.ffn.name == "moefy" and options.top_k > options.experts:
        yield Refusal("ffn", "moefy", f"ffn.top_k={options.top_k} is more than ffn.experts={options.experts}")


def _bitsandbytes_is_installed(config: RunConfig) -> Iterator[Refusal]:
    if config.weights.name.startswith("bnb_") and find_spec("bitsandbytes") is None:
        yield Refusal("weights", config.weights.name, "the package bitsandbytes is not installed; pip install bitsandbytes")


_TRANSFORMERS_RUNS = {
    "attention": ("full",),
    "heads": ("as_trained",),
    "cache": ("dynamic",),
    "weights": ("native", "cast", "bnb_int8", "bnb_nf4"),
    "ffn": ("dense",),
}
_TRANSFORMERS_LACKS = {
    "attention": "replaces the attention mask, which the transformers engine leaves to the model's own code",
    "heads": "rewrites the key and value projections, which the transformers engine leaves as they are",
    "cache": "replaces the key-value cache, and the transformers engine runs on its own growing one",
    "weights": "multiplies packed weights with this program's own kernels, which transformers' layers do not call",
    "ffn": "rewrites the feed-forward blocks, which the transformers engine leaves as they are",
}


def _transformers_engine_runs_the_model_as_it_is(config: RunConfig) -> Iterator[Refusal]:
    if config.engine.name != "transformers":
        return
    for family, names in _TRANSFORMERS_RUNS.items():
        name = config.choice(family).name
        if name not in names:
            yield Refusal(family, name, f"{name} {_TRANSFORMERS_LACKS[family]}; use engine.name=local")
    layers = getattr(config.weights.options, "layers", "all")
    if config.weights.name.startswith("bnb_") and layers != "all":
        reason = f"the transformers engine quantizes all layers, not {layers}; use weights.layers=all or engine.name=local"
        yield Refusal("weights", config.weights.name, reason)


def _transformers_does_not_requantize_gguf(config: RunConfig, info: ModelInfo) -> Iterator[Refusal]:
    if config.engine.name == "transformers" and config.weights.name.startswith("bnb_") and info.format == "gguf":
        reason = "transformers does not combine bitsandbytes with a GGUF file; use engine.name=local, or a safetensors folder"
        yield Refusal("weights", config.weights.name, reason)


def _local_engine_knows_the_architecture(config: RunConfig, info: ModelInfo) -> Iterator[Refusal]:
    if config.engine.name == "local" and info.engine != "local":
        reason = f"the local decoder does not know the architecture {info.architecture}; use engine.name=transformers"
        yield Refusal("engine", "local", reason)


def _cuda_is_there(config: RunConfig) -> Iterator[Refusal]:
    if _asks_for_cuda(config) and (reason := missing()):
        yield Refusal("engine", "local", f"engine.device=cuda needs an NVIDIA GPU, and {reason}; use engine.device=cpu")


def _cuda_has_what_is_chosen(config: RunConfig, info: ModelInfo) -> Iterator[Refusal]:
    if _asks_for_cuda(config):
        for family, name, reason in lacks(config, info):
            yield Refusal(family, name, f"{reason}; use engine.device=cpu")


def _asks_for_cuda(config: RunConfig) -> bool:
    return config.engine.name == "local" and config.engine.options.device == "cuda"


def _layers_exist(config: RunConfig, info: ModelInfo) -> Iterator[Refusal]:
    for family in CATALOGUE:
        choice = config.choice(family)
        try:
            parse_layers(getattr(choice.options, "layers", "all"), info.layers)
        except BadInput as error:
            yield Refusal(family, choice.name, str(error))


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


_NORMS_AFTER_ATTENTION = ("olmo2", "gemma2", "gemma3_text")


def _repair_needs_a_plain_output(config: RunConfig, info: ModelInfo) -> Iterator[Refusal]:
    if config.heads.name == "kv_sharing" and config.heads.options.repair and info.architecture in _NORMS_AFTER_ATTENTION:
        reason = f"{info.architecture} norms what W_o gives, so that it cannot be fitted alone; use heads.repair=false"
        yield Refusal("heads", "kv_sharing", reason)


def _fitting(queries: int, own: int) -> str:
    fits = [n for n in range(1, queries + 1) if queries % n == 0 and (n % own == 0 or own % n == 0)]
    return f"possible are {', '.join(map(str, fits))}"


def _latents_are_no_larger_than_keys_and_values(config: RunConfig, info: ModelInfo) -> Iterator[Refusal]:
    if config.heads.name == "latent_kv" and config.heads.options.rank > _kv_numbers(info):
        reason = (
            f"heads.rank={config.heads.options.rank} is more than the {_kv_numbers(info)} numbers of the keys and values of a "
            f"token in each layer of {info.name}"
        )
        yield Refusal("heads", "latent_kv", reason)


def _kv_numbers(info: ModelInfo) -> int:
    return 2 * info.kv_heads * info.head_size


def _moefy_splits_a_dense_ffn(config: RunConfig, info: ModelInfo) -> Iterator[Refusal]:
    if config.ffn.name != "moefy":
        return
    experts, width = config.ffn.options.experts, info.ffn_width
    if info.experts:
        reason = f"{info.name} already is a mixture of {info.experts} experts; use ffn.name=experts"
        yield Refusal("ffn", "moefy", reason)
    elif width % experts:
        near = sorted((n for n in range(2, min(width, 1024) + 1) if width % n == 0), key=lambda n: abs(n - experts))[:4]
        reason = f"ffn.experts={experts} does not divide the FFN width {width}; near it are {', '.join(map(str, sorted(near)))}"
        yield Refusal("ffn", "moefy", reason)


def _experts_needs_a_mixture(config: RunConfig, info: ModelInfo) -> Iterator[Refusal]:
    if config.ffn.name != "experts":
        return
    if not info.experts:
        reason = f"{info.name} has no experts: its feed-forward blocks are dense; use ffn.name=moefy to split them"
        yield Refusal("ffn", "experts", reason)
    elif config.ffn.options.top_k > info.experts:
        yield Refusal("ffn", "experts", f"ffn.top_k={config.ffn.options.top_k} is more than the model's {info.experts} experts")


_REWINDLESS = ("mamba", "rwkv", "jamba", "bamba", "zamba", "recurrent_gemma", "falcon_h1", "granitemoehybrid", "lfm2", "xlstm")


def _speculation_needs_a_model_that_rewinds(config: RunConfig, info: ModelInfo) -> Iterator[Refusal]:
    if config.decoding.name != "autoregressive" and info.architecture.startswith(_REWINDLESS):
        reason = f"{info.architecture} has a recurrent state that cannot take back a draft; use decoding.name=autoregressive"
        yield Refusal("decoding", config.decoding.name, reason)


_ANY_MODEL: tuple[Callable[[RunConfig], Iterator[Refusal]], ...] = (
    _transformers_engine_runs_the_model_as_it_is,
    _speculation_needs_a_cache_that_rewinds,
    _caches_that_need_softmax_have_it,
    _sinks_are_chosen_once,
    _recent_tokens_fit_the_budget,
    _latents_need_a_cache_that_takes_any_numbers,
    _moefy_uses_no_more_experts_than_it_has,
    _rows_divide_blocks,
    _bitsandbytes_is_installed,
    _cuda_is_there,
)
_ONE_MODEL: tuple[Callable[[RunConfig, ModelInfo], Iterator[Refusal]], ...] = (
    _local_engine_knows_the_architecture,
    _transformers_does_not_requantize_gguf,
    _layers_exist,
    _states_leave_no_keys_to_a_cache_policy,
    _feature_maps_are_trained,
    _kv_heads_divide,
    _repair_needs_a_plain_output,
    _latents_are_no_larger_than_keys_and_values,
    _moefy_splits_a_dense_ffn,
    _experts_needs_a_mixture,
    _speculation_needs_a_model_that_rewinds,
    _cuda_has_what_is_chosen,
)
