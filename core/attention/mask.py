"""Which keys a query may see, as arithmetic on positions: the same for NumPy (views) and torch (kernels)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.config import Choice
from core.layers import parse_layers


@dataclass(frozen=True)
class Reach:
    """A query at position p sees keys at positions ≤ p that are under `sinks` or over p − `window`.

    window None is unlimited. Two reaches intersect with `&`.
    """

    sinks: int = 0
    window: int | None = None

    def allowed(self, queries: Any, keys: Any) -> Any:
        """Bool [T, S] for query positions [T] and key positions [S], arrays of NumPy or torch."""
        distance = queries[:, None] - keys[None, :]
        causal = distance >= 0
        if self.window is None:
            return causal
        return causal & ((distance < self.window) | (keys[None, :] < self.sinks))

    def __and__(self, other: Reach) -> Reach:
        """What both let through; exact when at most one of them has sinks, or both have as many."""
        if self.window is None or other.window is None:
            return self if other.window is None else other
        return Reach(min(self.sinks, other.sinks), min(self.window, other.window))


FULL = Reach()


def reaches(choice: Choice, layers: int) -> tuple[Reach, ...]:
    """The reach in each layer of the attention technique `choice`."""
    if choice.name == "full":
        return (FULL,) * layers
    chosen = parse_layers(choice.options.layers, layers)
    reach = Reach(getattr(choice.options, "sinks", 0), choice.options.window)
    return tuple(reach if layer in chosen else FULL for layer in range(layers))
