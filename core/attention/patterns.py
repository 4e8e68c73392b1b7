"""The pattern of each attention technique in each layer, known before anything runs. Free of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from core.attention.mask import FULL, Pattern, Reach
from core.config import Choice
from core.layers import parse_layers

# What a query may see under the options of each technique; FULL where what is seen depends on what is asked.
_PATTERNS: dict[str, Callable[[Any], Pattern]] = {
    "full": lambda _: FULL,
    "window": lambda options: Reach(0, options.window),
    "sink_window": lambda options: Reach(options.sinks, options.window),
}


def pattern_of(choice: Choice) -> Pattern:
    """The pattern in a layer that the attention technique `choice` applies to."""
    return _PATTERNS[choice.name](choice.options)


def patterns(choice: Choice, layers: int) -> tuple[Pattern, ...]:
    """The pattern of the attention technique `choice` in each layer."""
    chosen = parse_layers(getattr(choice.options, "layers", "all"), layers)
    return tuple(pattern_of(choice) if layer in chosen else FULL for layer in range(layers))
