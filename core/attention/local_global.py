"""A window, and tokens that everyone sees wherever they stand: the first ones, and one in so many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.attention.mask import Part, Sparse


@dataclass(frozen=True)
class LocalGlobal(Sparse):
    """A query sees the `window` most recent tokens, the first `globals`, and positions divisible by `every` (0: none)."""

    window: int
    globals: int
    every: int = 0

    def sees(self, queries: Any, keys: Any, heads: Any) -> Any:
        distance = queries - keys
        for_all = keys < self.globals
        if self.every:
            for_all = for_all | (keys % self.every == 0)
        return (distance >= 0) & ((distance < self.window) | for_all)

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Part(self),)
