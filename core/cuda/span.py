"""Where a pass stands in its sequence, and the masks that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from core.attention.mask import Reach


@dataclass(frozen=True)
class Span:
    """positions [T] of a pass's tokens, on the device. slots: how many of the cache attention may look at.

    last: whether the last of these slots is that of the last token, as in a prompt; a replayed step looks at a whole bucket,
    and where in it the step stands only the device knows.
    """

    positions: Tensor
    slots: int
    last: bool
    _masks: dict[Reach, Tensor] = field(default_factory=dict, compare=False, repr=False)

    def mask(self, reach: Reach) -> Tensor:
        """Bool [T, slots], made once for all layers that share a reach."""
        if reach not in self._masks:
            self._masks[reach] = reach.allowed(self.positions, torch.arange(self.slots, device=self.positions.device))
        return self._masks[reach]

    def sees_all(self, reach: Reach) -> bool:
        """Whether each token sees every token before it, so that a causal kernel needs no mask."""
        return self.last and (reach.window is None or reach.window >= self.slots)
