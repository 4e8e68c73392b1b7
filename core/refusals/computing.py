"""Rules of engines, weights, feed-forward blocks and decoding."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from core.config import RunConfig
from core.cuda.found import missing
from core.cuda.support import lacks
from core.errors import BadInput
from core.layers import parse_layers
from core.models.info import ModelInfo
from core.refusals.refusal import ModelRule, Refusal, Rule
from core.techniques import CATALOGUE


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


ANY_MODEL: tuple[Rule, ...] = (
    _transformers_engine_runs_the_model_as_it_is,
    _moefy_uses_no_more_experts_than_it_has,
    _bitsandbytes_is_installed,
    _cuda_is_there,
)
ONE_MODEL: tuple[ModelRule, ...] = (
    _local_engine_knows_the_architecture,
    _transformers_does_not_requantize_gguf,
    _layers_exist,
    _moefy_splits_a_dense_ffn,
    _experts_needs_a_mixture,
    _speculation_needs_a_model_that_rewinds,
    _cuda_has_what_is_chosen,
)
