"""What a number takes in memory under a configuration, and how many numbers a token leaves in the cache. Free of torch."""

from __future__ import annotations

from core.attention.states import keeps_state
from core.config import RunConfig
from core.layers import parse_layers
from core.models.info import ModelInfo

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def kv_numbers(info: ModelInfo, config: RunConfig) -> list[int]:
    """For each layer, the numbers that its cache keeps of a token: keys and values of every KV head, a latent, or none."""
    numbers = [2 * heads * info.head_size for heads in kv_heads(info, config)]
    for layer in chosen_layers(info, config.heads.options) if config.heads.name == "latent_kv" else ():
        numbers[layer] = config.heads.options.rank
    for layer in layers_with_a_state(info, config):
        numbers[layer] = 0
    return numbers


def kv_heads(info: ModelInfo, config: RunConfig) -> list[int]:
    """KV heads of each layer."""
    heads, options = [info.kv_heads] * info.layers, config.heads.options
    for layer in chosen_layers(info, options) if config.heads.name == "kv_sharing" else ():
        heads[layer] = options.kv_heads
    return heads


def layers_with_a_state(info: ModelInfo, config: RunConfig) -> tuple[int, ...]:
    """Layers whose attention keeps a state of its own in place of cached keys and values."""
    return chosen_layers(info, config.attention.options) if keeps_state(config.attention) else ()


def kv_number_bytes(info: ModelInfo, config: RunConfig) -> int:
    """Keys and values are cached in the number format of a cast, else in 16 bits; transformers keeps that of its weights."""
    if config.weights.name == "cast":
        return DTYPE_BYTES[config.weights.options.dtype]
    return max(2, int(transformers_bytes(info, config))) if engine_of(info, config) == "transformers" else 2


def transformers_bytes(info: ModelInfo, config: RunConfig) -> float:
    """Bytes a value takes in transformers, which unpacks GGUF blocks to float32 and keeps a folder's own format."""
    match config.weights.name:
        case "cast":
            return DTYPE_BYTES[config.weights.options.dtype]
        case "bnb_nf4" | "bnb_int8":
            return bits_a_value(info, config) / 8
        case _:
            return 4 if info.format == "gguf" else info.weight_bytes / max(info.parameters, 1)


def bits_a_value(info: ModelInfo, config: RunConfig) -> float:
    """Bits that a weight takes where the configuration quantizes it, with its share of scales."""
    options = config.weights.options
    match config.weights.name:
        case "rtn":  # a scale and an offset of 16 bits for each group
            return float(options.bits) + 32 / (options.group_size or info.width)
        case "bnb_nf4":  # a scale of 32 bits for each 64 values
            return 4.5
        case "bnb_int8":  # a scale of 32 bits for each row
            return 8 + 32 / info.width
        case _:
            raise AssertionError(config.weights.name)


def engine_of(info: ModelInfo, config: RunConfig) -> str:
    """The engine that runs: the chosen one, or the only one that can."""
    return "transformers" if info.engine == "transformers" else config.engine.name


def chosen_layers(info: ModelInfo, options: object) -> tuple[int, ...]:
    """The layers that a technique with `options` applies to."""
    return parse_layers(getattr(options, "layers", "all"), info.layers)
