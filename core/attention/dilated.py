"""Recent tokens with gaps between them: a long look back at the price of a short one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.attention.mask import Part


@dataclass(frozen=True)
class Dilated:
    """A query sees itself and every `dilation`-th token before it, `window` tokens in all."""

    window: int
    dilation: int

    def allowed(self, queries: Any, keys: Any) -> Any:
        distance = queries[:, None] - keys[None, :]
        return (distance >= 0) & (distance < self.window * self.dilation) & (distance % self.dilation == 0)

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Part(self, self.dilation),)
