"""No cache: every pass computes the whole sequence again."""

from __future__ import annotations

import torch
from torch import Tensor

from core.cache.base import Cache, Held, KeyValues


class Off(Cache):
    """Hands attention the keys and values of the pass and keeps nothing; the session feeds the whole sequence each time."""

    def update(self, layer: int, k: Tensor, v: Tensor) -> KeyValues:
        k, v = (part.to(self.layout.dtype).transpose(0, 1).contiguous() for part in (k, v))
        return KeyValues(k, v, torch.arange(k.shape[1]))

    def advance(self, count: int) -> None:
        """Nothing is kept, so the next pass starts at position 0 again."""

    def trim(self, length: int) -> None:
        """Nothing is kept."""

    def held(self) -> Held:
        return Held.alike(torch.arange(0), self.number_bits)

    @property
    def nbytes(self) -> int:
        return 0

    @property
    def tokens(self) -> int:
        return 0
