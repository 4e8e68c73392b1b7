"""The pattern of each attention technique in each layer, known before anything runs. Free of torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.attention.bigbird import BigBird
from core.attention.dilated import Dilated
from core.attention.local_global import LocalGlobal
from core.attention.mask import FULL, Pattern, Reach, within
from core.attention.strided import Strided
from core.config import Choice, RunConfig
from core.layers import parse_layers
from core.models.info import ModelInfo


@dataclass(frozen=True)
class Plan:
    """What is known of a layer before a run: keys that a query sees in any case, and all that it may see.

    They are the same unless what is seen depends on what is asked.
    """

    surely: Pattern
    possibly: Pattern

    @property
    def chosen(self) -> bool:
        """Whether the keys in between are chosen by content."""
        return self.surely != self.possibly


# What a query sees in any case, under the options of each technique. Techniques that are not here attend in another way than
# by weights on keys.
_SURELY: dict[str, Callable[[Any], Pattern]] = {
    "full": lambda _: FULL,
    "window": lambda options: Reach(0, options.window),
    "sink_window": lambda options: Reach(options.sinks, options.window),
    "dilated": lambda options: Dilated(options.window, options.dilation),
    "strided": lambda options: Strided(options.window, options.stride),
    "local_global": lambda options: LocalGlobal(options.window, options.globals, options.every),
    "bigbird": lambda o: BigBird(o.block, o.window_blocks, o.global_blocks, o.random_blocks, o.seed),
    "block_topk": lambda options: BigBird(options.block, options.local_blocks, options.sink_blocks),
    "topk": lambda _: Reach(0, 1),
    "lsh": lambda options: Reach(0, options.window),
}
_BY_CONTENT = frozenset({"block_topk", "topk", "lsh"})  # choose among the other keys


def plan_of(choice: Choice, kv_heads: int = 1, window: int = 0) -> Plan:
    """What the attention technique `choice` lets a layer see that slides by `window`, 0 if it does not."""
    own = Reach(0, window or None)
    found = _SURELY.get(choice.name, _SURELY["full"])(choice.options)
    if isinstance(found, BigBird) and found.random_blocks:
        found = replace(found, heads=kv_heads)
    surely = found & own if isinstance(found, Reach) else within(found, own)
    return Plan(surely, own if choice.name in _BY_CONTENT else surely)


def plans(config: RunConfig, info: ModelInfo) -> tuple[Plan, ...]:
    """What each layer of the model sees. Raises BadInput when the technique's layers are not the model's."""
    return plans_of(config.attention, kv_heads_of(config, info), info.sliding_windows or (0,) * info.layers)


def plans_of(choice: Choice, kv_heads: Sequence[int], windows: Sequence[int]) -> tuple[Plan, ...]:
    """The same, for layers with so many KV heads that slide by these windows, 0 for none."""
    chosen = parse_layers(getattr(choice.options, "layers", "all"), len(kv_heads))
    full = RunConfig().attention
    return tuple(
        plan_of(choice if layer in chosen else full, heads, window)
        for layer, (heads, window) in enumerate(zip(kv_heads, windows, strict=True))
    )


def kv_heads_of(config: RunConfig, info: ModelInfo) -> tuple[int, ...]:
    """KV heads of each layer, after the heads technique."""
    if config.heads.name != "kv_sharing":
        return (info.kv_heads,) * info.layers
    shared = parse_layers(config.heads.options.layers, info.layers)
    return tuple(config.heads.options.kv_heads if layer in shared else info.kv_heads for layer in range(info.layers))
