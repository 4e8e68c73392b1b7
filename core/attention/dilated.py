"""Recent tokens with gaps between them: a long look back at the price of a short one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.attention.mask import Part, Sparse


@dataclass(frozen=True)
class Dilated(Sparse):
    """A query sees itself and every `dilation`-th token before it, `window` tokens in all."""

    window: int
    dilation: int

    def sees(self, queries: Any, keys: Any, heads: Any) -> Any:
        distance = queries - keys
        return (distance >= 0) & (distance < self.window * self.dilation) & (distance % self.dilation == 0)

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Part(self, self.dilation),)
