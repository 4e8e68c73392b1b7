"""Where a pass stands in its sequence, and the masks that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from core.attention.mask import Pattern, Reach

M = TypeVar("M")


@dataclass(frozen=True)
class Span:
    """positions [T] of a pass's tokens, on the device. slots: how many of the cache attention may look at.

    last: whether the last of these slots is that of the last token, as in a prompt; a replayed step looks at a whole bucket,
    and where in it the step stands only the device knows.
    """

    positions: Tensor
    slots: int
    last: bool
    _made: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)

    def once(self, name: Hashable, make: Callable[[], M]) -> M:
        """What `make` gives, made once for all layers that ask for `name`."""
        if name not in self._made:
            self._made[name] = make()
        made: M = self._made[name]
        return made

    def mask(self, pattern: Pattern) -> Tensor:
        """Bool [T, slots], or [G, T, slots] where KV heads differ."""

        def made() -> Tensor:
            seen: Tensor = pattern.allowed(self.positions, torch.arange(self.slots, device=self.positions.device))
            return seen

        return self.once(pattern, made)

    def sees_all(self, pattern: Pattern) -> bool:
        """Whether each token sees every token before it, so that a causal kernel needs no mask."""
        return self.last and isinstance(pattern, Reach) and (pattern.window is None or pattern.window >= self.slots)
