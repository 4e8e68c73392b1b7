"""The memory that a configuration will need, from a model's headers alone. Modelled, not measured; free of torch."""

from __future__ import annotations

from collections.abc import Mapping

from core.attention.states import keeps_state, state_bytes
from core.config import RunConfig
from core.events import Estimate
from core.hardware import memory_available
from core.layers import parse_layers
from core.models.info import ModelInfo
from core.models.limits import most_tokens

_DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# Held in memory against stored in the file: the scales of K-quants are unpacked to float32 for each 16 or 32 codes.
_UNPACKED = {"Q4_K": 0.75 / 0.5625, "Q5_K": 0.875 / 0.6875, "Q6_K": 1.0 / 0.8203125}
# Bits a value takes in each stored type.
_BITS = {
    "F64": 64.0, "F32": 32.0, "F16": 16.0, "BF16": 16.0, "Q4_0": 4.5, "Q4_1": 5.0, "Q5_0": 5.5, "Q5_1": 6.0, "Q8_0": 8.5,
    "Q4_K": 4.5, "Q5_K": 5.5, "Q6_K": 6.5625,
}  # fmt: skip
_FIRST_CAPACITY = 256  # tokens a growing cache begins with


def estimate(info: ModelInfo, config: RunConfig, prompt_tokens: int = 0) -> Estimate:
    """Bytes of weights, KV cache and activations for `prompt_tokens` and the configuration's most new tokens.

    available: bytes that this machine has left.
    """
    tokens = min(most_tokens(config, info) or prompt_tokens, prompt_tokens + config.run.max_new_tokens)
    per_token = kv_bytes_per_token(info, config)
    parts = {
        "weights": weight_bytes(info, config),
        "kv": per_token * cached_tokens(config, tokens) + _own_state_bytes(info, config, tokens),
        "activations": _activation_bytes(info, config, tokens),
    }
    return Estimate(parts["weights"], per_token, sum(parts.values()), memory_available(), parts)


def kv_bytes_per_token(info: ModelInfo, config: RunConfig) -> int:
    """Bytes of keys and values that one token adds over all layers."""
    if config.cache.name == "off":
        return 0
    heads = _kv_heads(info, config)
    cached = sum(heads) - sum(heads[layer] for layer in _layers_with_a_state(info, config))
    return 2 * cached * info.head_size * _kv_value_bytes(info, config)


def _kv_heads(info: ModelInfo, config: RunConfig) -> list[int]:
    """Of each layer."""
    heads = [info.kv_heads] * info.layers
    if config.heads.name == "kv_sharing":
        for layer in _layers(info, config.heads.options):
            heads[layer] = config.heads.options.kv_heads
    return heads


def _layers_with_a_state(info: ModelInfo, config: RunConfig) -> tuple[int, ...]:
    """Layers whose attention keeps a state of its own in place of cached keys and values."""
    return _layers(info, config.attention.options) if keeps_state(config.attention) else ()


def _own_state_bytes(info: ModelInfo, config: RunConfig, tokens: int) -> int:
    """Bytes of those states after `tokens` tokens."""
    heads, number = _kv_heads(info, config), _kv_value_bytes(info, config)
    return sum(
        state_bytes(config.attention, info, heads[layer], number, tokens) for layer in _layers_with_a_state(info, config)
    )


def cached_tokens(config: RunConfig, tokens: int) -> int:
    """Tokens that the cache has room for in a run of `tokens` tokens."""
    options = config.cache.options
    match config.cache.name:
        case "off":
            return 0
        case "static":
            return int(options.capacity or tokens)
        case "rolling":
            return min(tokens, int(options.window))
        case "sinks":
            return min(tokens, int(options.sinks + options.window))
        case _:
            capacity = _FIRST_CAPACITY
            while capacity < tokens:
                capacity *= 2
            return capacity


def weight_bytes(info: ModelInfo, config: RunConfig) -> int:
    """Resident bytes of the weights under the configuration's weights and heads techniques."""
    if _engine(info, config) == "transformers":
        return int(info.parameters * _transformers_bytes(info, config))
    matrices = sum(info.matrix_bytes.values())
    share = len(_layers(info, config.weights.options)) / max(info.layers, 1)
    values = _values(info.matrix_bytes)
    rest = _held(info.tensor_bytes) - _held(info.matrix_bytes)
    match config.weights.name:
        case "native":
            total = _held(info.tensor_bytes)
        case "cast":
            embedding = 0 if info.tied_head else info.embedding_bytes
            total = embedding + _DTYPE_BYTES[config.weights.options.dtype] * (info.parameters - _embedding_values(info))
        case _:
            changed = share * values * _bits_a_value(info, config) / 8
            total = rest + changed + (1 - share) * _held(info.matrix_bytes)
    return int(total + _shared_head_bytes(info, config, matrices / max(values, 1)))


def _bits_a_value(info: ModelInfo, config: RunConfig) -> float:
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


def _values(sizes: Mapping[str, int]) -> float:
    return sum(size * 8 / _BITS.get(kind, 8) for kind, size in sizes.items())


def _held(sizes: Mapping[str, int]) -> float:
    return sum(size * _UNPACKED.get(kind, 1.0) for kind, size in sizes.items())


def _embedding_values(info: ModelInfo) -> int:
    """An untied embedding is read from the file, row by row, whatever the technique."""
    return 0 if info.tied_head else info.vocabulary * info.width


def _layers(info: ModelInfo, options: object) -> tuple[int, ...]:
    return parse_layers(getattr(options, "layers", "all"), info.layers)


def _extra_heads(info: ModelInfo, config: RunConfig) -> list[int]:
    """For each layer that shares KV heads, how many it has more (or fewer) than trained."""
    if config.heads.name != "kv_sharing":
        return []
    return [config.heads.options.kv_heads - info.kv_heads for _ in _layers(info, config.heads.options)]


def _shared_head_bytes(info: ModelInfo, config: RunConfig, stored: float) -> float:
    """What sharing KV heads adds to the K and V matrices: copies keep the stored type, pooled ones are float32."""
    extra = _extra_heads(info, config)
    head = 2 * info.width * info.head_size  # values of one head's K and V rows
    if not extra or extra[0] >= 0 or config.weights.name != "native":
        return sum(extra) * head * stored
    return len(extra) * head * (4 * (info.kv_heads + extra[0]) - stored * info.kv_heads)


def _kv_value_bytes(info: ModelInfo, config: RunConfig) -> int:
    """Keys and values are cached in the number format of a cast, else in 16 bits; transformers keeps that of its weights."""
    if config.weights.name == "cast":
        return _DTYPE_BYTES[config.weights.options.dtype]
    return max(2, int(_transformers_bytes(info, config))) if _engine(info, config) == "transformers" else 2


def _engine(info: ModelInfo, config: RunConfig) -> str:
    return "transformers" if info.engine == "transformers" else config.engine.name


def _transformers_bytes(info: ModelInfo, config: RunConfig) -> float:
    """Bytes a value takes in transformers, which unpacks GGUF blocks to float32 and keeps a folder's own format."""
    match config.weights.name:
        case "cast":
            return _DTYPE_BYTES[config.weights.options.dtype]
        case "bnb_nf4" | "bnb_int8":
            return _bits_a_value(info, config) / 8
        case _:
            return 4 if info.format == "gguf" else info.weight_bytes / max(info.parameters, 1)


def _activation_bytes(info: ModelInfo, config: RunConfig, tokens: int) -> int:
    """The largest pass: one prefill chunk through the widest block, its attention scores, and one row of logits."""
    rows = min(tokens, config.run.prefill_chunk)
    width = 4 * info.width + 3 * info.ffn_width * max(info.experts_used, 1)
    return 4 * (rows * width + rows * tokens * info.query_heads + info.vocabulary)
