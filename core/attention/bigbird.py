"""Blocks of tokens: the recent ones, the first ones, and a few at random, other ones for each KV head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.attention.mask import Part, Sparse


@dataclass(frozen=True)
class BigBird(Sparse):
    """A query in block i sees block i up to itself, the `window_blocks` − 1 blocks before, the first `global_blocks`, and
    `random_blocks` of those in between, drawn anew for each i and each of `heads` KV heads: any length has its mask already.
    """

    block: int
    window_blocks: int
    global_blocks: int
    random_blocks: int = 0
    seed: int = 0
    heads: int = 1

    def sees(self, queries: Any, keys: Any, heads: Any) -> Any:
        blocks, others = queries // self.block, keys // self.block
        seen = (blocks - others < self.window_blocks) | (others < self.global_blocks)
        for drawn in self._drawn(blocks, heads):
            seen = seen | (drawn == others)
        return (queries >= keys) & seen

    def allowed(self, queries: Any, keys: Any) -> Any:
        """Bool [G, T, S], or [T, S] where nothing is random."""
        heads = _column(queries, self.heads)[:, :, None] if self.random_blocks else 0
        return self.sees(queries[:, None], keys[None, :], heads)

    def _drawn(self, blocks: Any, heads: Any) -> list[Any]:
        """Blocks that queries in `blocks` draw for KV heads `heads`, no block twice; −1 where there are none left.

        Floyd's way to draw without putting back: the r-th draw is from the first `most` + 1 candidates, and what was drawn
        before makes way for the newest candidate.
        """
        between = blocks - (self.window_blocks - 1) - self.global_blocks  # candidates
        lanes = blocks * self.heads + heads
        before: list[Any] = []
        for draw in range(self.random_blocks):
            most = between - self.random_blocks + draw
            place = _hashed(lanes * self.random_blocks + draw, self.seed) % (most * (most > 0) + 1)
            taken = place < 0
            for other in before:
                taken = taken | (place == other)
            place = place + taken * (most - place)
            before.append(place * (most >= 0) - (most < 0) * (self.global_blocks + 1))
        return [place + self.global_blocks for place in before]

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Part(self),)


def _column(like: Any, count: int) -> Any:
    """0 … count − 1 as [count, 1], in the kind of `like`, whose first entry exists."""
    return (like[:1] * 0 + 1).repeat(count).cumsum(0)[:, None] - 1


def _hashed(numbers: Any, seed: int) -> Any:
    """Whole numbers in 0 … 2³¹ − 1 that look random; the same for NumPy and torch, as no product overflows."""
    mixed = (numbers + seed * 7919 + 1) & 0x7FFFFFFF
    for factor in (0x45D9F3B, 0x27D4EB2F):
        mixed = ((mixed ^ (mixed >> 16)) * factor) & 0x7FFFFFFF
    return mixed ^ (mixed >> 15)
