"""A short window, and one token in each stride before it, as in the strided Sparse Transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.attention.mask import Part, Pattern, Reach, Sparse


@dataclass(frozen=True)
class Strided(Sparse):
    """A query sees the `window` most recent tokens, and all at a multiple of `stride` before it."""

    window: int
    stride: int

    def sees(self, queries: Any, keys: Any, heads: Any) -> Any:
        distance = queries - keys
        return (distance >= 0) & ((distance < self.window) | (distance % self.stride == 0))

    @property
    def parts(self) -> tuple[Part, ...]:
        return Part(Reach(0, self.window)), Part(_Behind(self.window, self.stride), self.stride)


@dataclass(frozen=True)
class _Behind(Pattern):
    """Tokens at a multiple of `stride` before the query, beyond the window."""

    window: int
    stride: int

    def sees(self, queries: Any, keys: Any, heads: Any) -> Any:
        distance = queries - keys
        return (distance >= self.window) & (distance % self.stride == 0)
