"""The memory that a configuration will need, from a model's headers alone. Modelled, not measured; free of torch."""

from __future__ import annotations

from collections.abc import Mapping

from core.attention.states import state_bytes
from core.cache.shares import of_all
from core.config import RunConfig
from core.cuda.found import memory_left
from core.cuda.support import runs_on_gpu
from core.events import Estimate
from core.hardware import memory_available
from core.heads.choice import trained_heads
from core.models.info import ModelInfo
from core.models.limits import most_tokens
from core.models.numbers import (
    DTYPE_BYTES,
    bits_a_value,
    chosen_layers,
    engine_of,
    kv_heads,
    kv_number_bytes,
    kv_numbers,
    layers_with_a_state,
    transformers_bytes,
)

# Held in memory against stored in the file: the scales of K-quants are unpacked to float32 for each 16 or 32 codes.
_UNPACKED = {"Q4_K": 0.75 / 0.5625, "Q5_K": 0.875 / 0.6875, "Q6_K": 1.0 / 0.8203125}
# On a GPU codes of 2 and 3 bits take 4, of 5 to 7 take 8, and scales that 16 bits do not hold take 32.
_ON_GPU = {"Q5_0": 8.5 / 5.5, "Q5_1": 9.0 / 6.0, "Q4_K": 6.0 / 4.5, "Q5_K": 10.0 / 5.5, "Q6_K": 10.0 / 6.5625}
# Bits a value takes in each stored type.
_BITS = {
    "F64": 64.0, "F32": 32.0, "F16": 16.0, "BF16": 16.0, "Q4_0": 4.5, "Q4_1": 5.0, "Q5_0": 5.5, "Q5_1": 6.0, "Q8_0": 8.5,
    "Q4_K": 4.5, "Q5_K": 5.5, "Q6_K": 6.5625,
}  # fmt: skip
_FIRST_CAPACITY = 256  # tokens a growing cache begins with
_SMALLEST_BUCKET = 128  # tokens that a cache on a GPU has room for at least


def estimate(info: ModelInfo, config: RunConfig, prompt_tokens: int = 0) -> Estimate:
    """Bytes of weights, KV cache and activations for `prompt_tokens` and the configuration's most new tokens.

    available: bytes that this machine has left, or its GPU where the run goes there.
    """
    on_gpu = runs_on_gpu(config, info)
    tokens = min(most_tokens(config, info) or prompt_tokens, prompt_tokens + config.run.max_new_tokens)
    per_token = kv_bytes_per_token(info, config)
    parts = {
        "weights": weight_bytes(info, config, on_gpu),
        "kv": per_token * (tokens_on_gpu(config, tokens) if on_gpu else cached_tokens(config, tokens))
        + _exact_bytes(info, config, tokens)
        + _own_state_bytes(info, config, tokens),
        "activations": _activation_bytes_on_gpu(info, config, tokens) if on_gpu else _activation_bytes(info, config, tokens),
    }
    available = memory_left() if on_gpu else memory_available()
    freed = 0 if on_gpu else per_token * (cached_tokens(config, tokens) - tokens_at_end(config, tokens))
    return Estimate(parts["weights"], per_token, parts["kv"] - freed, sum(parts.values()), available, parts)


def kv_bytes_per_token(info: ModelInfo, config: RunConfig) -> int:
    """Bytes of keys and values that one token adds over all layers."""
    if config.cache.name == "off":
        return 0
    return int(sum(kv_numbers(info, config)) * kv_number_bytes(info, config) * _share_in_memory(info, config))


def _own_state_bytes(info: ModelInfo, config: RunConfig, tokens: int) -> int:
    """Bytes of the states, after `tokens` tokens, of layers whose attention keeps one in place of cached keys and values."""
    heads, number = kv_heads(info, config), kv_number_bytes(info, config)
    return sum(state_bytes(config.attention, info, heads[layer], number, tokens) for layer in layers_with_a_state(info, config))


def _share_in_memory(info: ModelInfo, config: RunConfig) -> float:
    """Bytes in memory of a cached number, in codes, scales and zeros or in a file, over those of an exact one in memory."""
    if config.cache.name == "offloaded":  # two layers are in memory
        return min(1.0, 2 / max(1, info.layers))
    if config.cache.name != "quantized":
        return 1.0
    options, many = config.cache.options, 2 * config.cache.options.group_size
    channels = info.head_size if info.head_size % many else many
    bits = options.bits + (32 / options.group_size + 32 / channels) / 2  # keys and values
    return float(bits) / (8 * kv_number_bytes(info, config))


def _exact_bytes(info: ModelInfo, config: RunConfig, tokens: int) -> int:
    """Bytes of the tokens that a quantized cache has room for as they are."""
    options = config.cache.options
    if config.cache.name != "quantized":
        return 0
    exact = min(tokens, options.sinks + options.residual + options.group_size)
    return int(exact * kv_bytes_per_token(info, config) / _share_in_memory(info, config))


def cached_tokens(config: RunConfig, tokens: int) -> int:
    """Tokens that the cache has room for in a run of `tokens` tokens, where it has most."""
    options = config.cache.options
    match config.cache.name:
        case "off":
            return 0
        case "static":
            return int(options.capacity or tokens)
        case "rolling":  # a ring is whole from the beginning
            return int(options.window)
        case "sinks":
            return int(options.sinks + options.window)
        case "quantized":
            return max(0, tokens - int(options.sinks + options.residual)) // int(options.group_size) * int(options.group_size)
        case "paged":
            return int(-(-tokens // options.block_size) * options.block_size)
        case "offloaded":
            return tokens
        case "h2o":
            return min(tokens, max(2, of_all(options.budget, tokens)))
        case "snapkv":  # the prompt is there before it is condensed
            return max(_FIRST_CAPACITY, tokens - config.run.max_new_tokens, tokens_at_end(config, tokens))
        case _:  # doubled buffers end at the length of the run
            return max(_FIRST_CAPACITY, tokens)


def tokens_at_end(config: RunConfig, tokens: int) -> int:
    """The same at the end of the run."""
    if config.cache.name != "snapkv":
        return cached_tokens(config, tokens)
    prompt = max(0, tokens - config.run.max_new_tokens)
    return min(of_all(config.cache.options.budget, prompt), prompt) + tokens - prompt


def tokens_on_gpu(config: RunConfig, tokens: int) -> int:
    """The same on a GPU, whose buffers have room for a power of two."""
    return _doubled(cached_tokens(config, tokens) if config.cache.name == "static" else tokens)


def _doubled(tokens: int) -> int:
    """Room for `tokens` in buffers of a power of two."""
    capacity = _SMALLEST_BUCKET
    while capacity < tokens:
        capacity *= 2
    return capacity


def weight_bytes(info: ModelInfo, config: RunConfig, on_gpu: bool = False) -> int:
    """Resident bytes of the weights under the configuration's weights and heads techniques."""
    if engine_of(info, config) == "transformers":
        return int(info.parameters * transformers_bytes(info, config))
    matrices = sum(info.matrix_bytes.values())
    share = len(chosen_layers(info, config.weights.options)) / max(info.layers, 1)
    values = _values(info.matrix_bytes)
    whole, inside = (_held(sizes, on_gpu) for sizes in (info.tensor_bytes, info.matrix_bytes))
    match config.weights.name:
        case "native":
            total = whole
        case "cast":
            apart = not info.tied_head and not on_gpu  # an embedding that is read from the file, row by row
            changed = info.parameters - (info.vocabulary * info.width if apart else 0)
            total = (info.embedding_bytes if apart else 0) + DTYPE_BYTES[config.weights.options.dtype] * changed
        case _:
            total = whole - inside + share * values * bits_a_value(info, config) / 8 + (1 - share) * inside
    stored = matrices / max(values, 1)
    return int(total + _shared_head_bytes(info, config, stored) + _latent_bytes(info, config, stored))


def _values(sizes: Mapping[str, int]) -> float:
    return sum(size * 8 / _BITS.get(kind, 8) for kind, size in sizes.items())


def _held(sizes: Mapping[str, int], on_gpu: bool) -> float:
    factors = _ON_GPU if on_gpu else _UNPACKED
    return sum(size * factors.get(kind, 1.0) for kind, size in sizes.items())


def _extra_heads(info: ModelInfo, config: RunConfig) -> list[int]:
    """For each layer that shares KV heads, how many it has more (or fewer) than trained."""
    if config.heads.name != "kv_sharing":
        return []
    return [config.heads.options.kv_heads - info.kv_heads for _ in chosen_layers(info, config.heads.options)]


def _shared_head_bytes(info: ModelInfo, config: RunConfig, stored: float) -> float:
    """What sharing KV heads adds to the matrices: copies keep the stored type, K and V that are pooled are float32.

    So are W_q and W_o, where they take over what heads lose. Where heads were trained for the model, all four are bfloat16.
    """
    extra = _extra_heads(info, config)
    head = 2 * info.width * info.head_size  # values of one head's K and V rows
    if not extra or extra[0] >= 0 or config.weights.name != "native":
        return sum(extra) * head * stored
    options = config.heads.options
    trained, fitted = trained_heads(options, info) is not None, options.pool == "least_squares"
    matrices = bool(fitted or trained) + bool(fitted or options.repair)
    size, new = info.query_heads * info.head_size * info.width, 2 if trained else 4
    return len(extra) * (head * (new * (info.kv_heads + extra[0]) - stored * info.kv_heads) + matrices * size * (new - stored))


def _latent_bytes(info: ModelInfo, config: RunConfig, stored: float) -> float:
    """What latents add: in place of K and V the way into the latent, float32 where nothing else is chosen, and the way out."""
    if config.heads.name != "latent_kv":
        return 0.0
    rank, most = config.heads.options.rank, 2 * info.kv_heads * info.head_size
    inwards = info.width * (rank * (4 if config.weights.name == "native" else stored) - most * stored)
    outwards = most * (rank + 1) * kv_number_bytes(info, config)
    return float(len(chosen_layers(info, config.heads.options)) * (inwards + outwards))


def _activation_bytes(info: ModelInfo, config: RunConfig, tokens: int) -> int:
    """The largest pass: one prefill chunk through the widest block, its attention scores, and one row of logits."""
    rows = min(tokens, config.run.prefill_chunk)
    return 4 * (rows * _row_numbers(info) + rows * tokens * info.query_heads + info.vocabulary)


def _activation_bytes_on_gpu(info: ModelInfo, config: RunConfig, tokens: int) -> int:
    """The same, where scores are never whole: keys and values of every query head, and a matrix unpacked in 16 bits."""
    repeated = 2 * tokens * info.query_heads * info.head_size if info.query_heads > info.kv_heads else 0
    unpacked = 2 * info.ffn_width * info.width
    rows = min(tokens, config.run.prefill_chunk)
    return 4 * (rows * _row_numbers(info) + info.vocabulary) + 2 * (repeated + unpacked)


def _row_numbers(info: ModelInfo) -> int:
    """Numbers of one row in the widest block."""
    return 4 * info.width + 3 * info.ffn_width * max(info.experts_used, 1)
