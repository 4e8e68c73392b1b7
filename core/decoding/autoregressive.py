"""One token a pass: nothing is drafted."""

from __future__ import annotations

from collections.abc import Sequence

from core.technique import NoOptions


class Autoregressive:
    """Proposes nothing, so each pass yields one token."""

    def __init__(self, options: NoOptions) -> None:
        del options

    def propose(self, tokens: Sequence[int], limit: int) -> list[int]:
        del tokens, limit
        return []
