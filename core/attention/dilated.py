"""Recent tokens with gaps between them: a long look back at the price of a short one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.attention.mask import Part

if TYPE_CHECKING:
    from core.attention.mechanism import Mechanism, Site
    from core.attention.table import DilatedOptions


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


def dilated(options: DilatedOptions, site: Site) -> Mechanism:
    """Recent tokens with gaps."""
    from core.attention.gathered import Gathered

    return Gathered(site, Dilated(options.window, options.dilation))
