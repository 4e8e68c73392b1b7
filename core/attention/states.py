"""Bytes that attention techniques with a state of their own hold in a layer, in place of cached keys and values.

Modelled; free of torch. The mechanisms allocate what is said here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.config import Choice
from core.models.adapters import features_of
from core.models.info import ModelInfo

BLOCK = 64  # rows that go through a state together, and at least so many that can be taken back
FLOAT = 4  # bytes of a number of a state

_Bytes = Callable[[Any, ModelInfo, int, int, int], int]  # from options, model, G, bytes of a cached number, and tokens seen


def linear_room(window: int) -> int:
    """Latest tokens that linear attention keeps as they are: a window, what can be taken back, and a block."""
    return window + 2 * BLOCK


def compressed_room(block: int, local: int) -> int:
    """Latest tokens that attention to compressed blocks keeps as they are."""
    return (local + 1) * block + BLOCK


def block_of(position: Any, sinks: int, block: int) -> Any:
    """The block of a position, or of those in an array: blocks begin after the sinks, which are as if in the first one."""
    begun = max(0, position - sinks) if isinstance(position, int) else (position - sinks).clip(0)
    return begun // block


def _linear(features: Callable[[Any, ModelInfo], int]) -> _Bytes:
    def size(options: Any, info: ModelInfo, G: int, number: int, _tokens: int) -> int:
        D = info.head_size
        state = G * features(options, info) * (D + 2) * FLOAT  # sums of values, of features, and their peaks
        kept: int = options.sinks + linear_room(options.window)
        return state + 2 * G * D * kept * number

    return size


def _linformer(options: Any, info: ModelInfo, G: int, number: int, tokens: int) -> int:
    rows: int = options.rank * max(0, block_of(tokens - 1, options.sinks, options.block) - options.local)
    kept: int = options.sinks + compressed_room(options.block, options.local)
    return 2 * G * info.head_size * (kept + rows) * number + rows * G * FLOAT


def _landmark(options: Any, info: ModelInfo, G: int, number: int, tokens: int) -> int:
    rows: int = max(0, block_of(tokens - 1, options.sinks, options.segment) - options.local)
    kept: int = options.sinks + compressed_room(options.segment, options.local)
    H, D = (info.query_heads if options.summary == "nystrom" else 0), info.head_size  # queries are kept for their mean
    own = H or G  # values and logits of a landmark
    return (2 * G + H) * D * kept * number + rows * ((G + own) * D * number + own * FLOAT)


_BYTES: dict[str, _Bytes] = {
    "linear_elu": _linear(lambda _, info: info.head_size),
    "performer": _linear(lambda options, _: int(options.features)),
    "linear_learned": _linear(lambda options, info: features_of(info, options.adapter)),
    "linformer": _linformer,
    "landmark": _landmark,
}


def keeps_state(choice: Choice) -> bool:
    """Whether the attention technique `choice` keeps a state of its own in the layers that it applies to."""
    return choice.name in _BYTES


def state_bytes(choice: Choice, info: ModelInfo, kv_heads: int, number: int, tokens: int) -> int:
    """What a layer of `kv_heads` KV heads holds after `tokens` tokens, 0 for a technique that leaves it to the cache.

    number: bytes of a cached number.
    """
    return _BYTES[choice.name](choice.options, info, kv_heads, number, tokens) if keeps_state(choice) else 0
