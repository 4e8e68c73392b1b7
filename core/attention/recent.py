"""What a mechanism keeps as it is of the first tokens, and of the latest ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from core.attention.mechanism import Site


class Recent:
    """Parts (keys, values, …) [heads, sinks + room, D] of the first `sinks` tokens and the latest `room` ones after them.

    positions [sinks + room]: of the token in each slot; −1 where there is none.
    """

    def __init__(self, site: Site, heads: Sequence[int], sinks: int, room: int) -> None:
        self.sinks, self.room = sinks, room
        self.parts = [torch.zeros(count, sinks + room, site.head_size, dtype=site.dtype) for count in heads]
        self.positions = torch.full((sinks + room,), -1)

    def write(self, first: int, *parts: Tensor) -> None:
        """Keep the parts [T, heads, D] of tokens from `first` on, T ≤ room, in place of what is `room` tokens older."""
        end = first + len(parts[0])
        slots = self._slots(first, end)
        for kept, part in zip(self.parts, parts, strict=True):
            kept[:, slots] = part.transpose(0, 1).to(kept.dtype)
        self.positions[slots] = torch.arange(first, end)

    def at(self, first: int, end: int) -> list[Tensor]:
        """The parts [heads, T, D] float32 of the tokens at positions first … end − 1, which are still held."""
        slots = self._slots(first, end)
        return [part[:, slots].float() for part in self.parts]

    def forget(self, length: int) -> None:
        """Drop the tokens at position `length` and after it."""
        self.positions = torch.where(self.positions < length, self.positions, -1)  # a rewind may be outside of inference mode

    def _slots(self, first: int, end: int) -> slice | Tensor:
        """Sinks have a slot each, the others take turns."""
        begin, last = (self._slot(position) for position in (first, end - 1))
        if last - begin == end - 1 - first:
            return slice(begin, last + 1)
        return torch.tensor([self._slot(position) for position in range(first, end)])

    def _slot(self, position: int) -> int:
        return position if position < self.sinks else self.sinks + (position - self.sinks) % self.room

    @property
    def tokens(self) -> int:
        return int((self.positions >= 0).sum())

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)
