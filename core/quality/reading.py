"""A text of any length through a session: chunk by chunk, and anew from its recent half where a limit is reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from core.engine.backend import Session

MOST_ROWS = 256  # tokens of a chunk
_LOGITS = 2**26  # bytes of the logits of a chunk
_AGAIN = 2048  # tokens of a chunk that is read again, of which no logits are wanted


def chunk_of(vocabulary: int, most: int) -> int:
    """Tokens fed at once: at most `most`, and few enough that their logits stay small."""
    return max(1, min(MOST_ROWS, _LOGITS // (4 * vocabulary), most))


class Reading:
    """One text. limit: most tokens that a session may hold.

    Where the next chunk would pass it, a fresh session first reads `start` and the last limit / 2 tokens again, so that every
    token sees at least so many before it. A text within the limit is one continuous pass.
    """

    def __init__(self, opened: Callable[[int], Session], limit: int, start: Sequence[int]) -> None:
        self._opened, self._limit, self._start = opened, limit, list(start)
        self._recent: list[int] = []
        self.session = opened(limit)

    def feed(self, chunk: Sequence[int], all_logits: bool) -> torch.Tensor:
        """Logits [T, V] float32 after each token of `chunk` [T], or [1, V] after the last."""
        if self.session.length + len(chunk) > self._limit:
            self._begin_anew(len(chunk))
        self._recent = [*self._recent, *chunk][-self._limit :]
        return self.session.forward(chunk, all_logits)

    def _begin_anew(self, coming: int) -> None:
        room = min(self._limit // 2, self._limit - coming - len(self._start))
        again = [*self._start, *self._recent[len(self._recent) - room :]]
        self.session = self._opened(self._limit)
        for first in range(0, len(again), _AGAIN):
            self.session.forward(again[first : first + _AGAIN])
