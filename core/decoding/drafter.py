"""What the decode loop asks of a decoding technique."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Drafter(Protocol):
    """Proposes tokens that one pass over the weights then verifies; proposing nothing is plain decoding."""

    def propose(self, tokens: Sequence[int], limit: int) -> list[int]:
        """At most `limit` tokens that may follow `tokens` (prompt and output so far, which only grows by appending)."""
        ...
