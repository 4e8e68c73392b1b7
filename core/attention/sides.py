"""Keys and values of a pass over coded blocks, in both forms side by side, so that each query sees two plain runs of slots.

The first side holds what queries see of blocks that have closed for them, position by position: the exact first tokens, then
what codes stand for. The second side holds exact tokens. A block that closes within the pass is on both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from core.cache.base import Coded, Slots
from core.cache.coded import Share
from core.compiled.tiles import SIDE

BLOCK = 128  # slots that attention on tiles takes at a time, from where each side begins


@dataclass(frozen=True)
class Edges:
    """Which slots a query sees: on the first side those before its edge, on the second those from its edge to its own position.

    of_rows: edges of the pass's rows, as positions, ascending int32; the last repeats up to a multiple of SIDE. turn: the slot
    at which the second side begins, and `base` the position there.
    """

    of_rows: np.ndarray
    turn: int
    base: int


class Sides:
    """Room for keys and values of both sides, of one layer of a pass after the other.

    Slots between the sides that no query sees hold zeros, for values are multiplied with weights even there.
    """

    def __init__(self, slots: Slots, coded: Coded, rows: int) -> None:
        self.slots, self.coded, self.rows = slots, coded, rows
        seen = np.array([*coded.seen, *[coded.seen[-1]] * (-rows % SIDE)], np.int32)
        edges = np.where(seen > 0, seen + np.int32(coded.exact), np.int32(0))
        self.first, self.last = int(edges[0]), int(edges[-1])  # edges of the first row and of the last one
        base = self.first // BLOCK * BLOCK
        self.edges = Edges(edges, -(-self.last // SIDE) * SIDE, base)
        buffer = slots.buffers.keys[0]
        count = self.edges.turn + self.end - base
        self._room = torch.empty(2, max(map(len, slots.buffers.keys)), count, buffer.shape[2], dtype=buffer.dtype)
        self._room[:, :, self.last : self.edges.turn + self.first - base] = 0

    @property
    def end(self) -> int:
        """The position after the last."""
        return self.slots.end + self.rows + self.coded.stored

    def fill(self, layer: int, share: Share) -> tuple[Tensor, Tensor]:
        """Keys and values [G, S, D] of both sides; encodes what closes within the pass, whose exact numbers are there."""
        coded, held = self.coded, (self.slots.buffers.keys[layer], self.slots.buffers.values[layer])
        if coded.fresh:
            group = coded.blocks.forms[layer].group
            fresh = slice(coded.exact, coded.exact + coded.fresh * group)
            coded.blocks.encode(layer, coded.stored // group, held[0][:, fresh], held[1][:, fresh], share)
        sides = self._room[:, : len(held[0])]
        self._copy(held, sides, share)
        codes = slice(coded.exact, self.last)
        keys, values = sides
        coded.blocks.expand(layer, keys[:, codes], values[:, codes], share)
        return keys, values

    def _copy(self, held: tuple[Tensor, Tensor], sides: Tensor, share: Share) -> None:
        """Exact numbers of every head: the first tokens to one side, those from the first edge on to the other."""
        sources, targets = ([_bytes(part) for part in parts] for parts in (held, sides))
        heads, first, exact = sides.shape[1], self.edges.turn + self.first - self.edges.base, self.coded.exact

        def copy(begin: int, end: int) -> None:
            for part, head in (divmod(item, heads) for item in range(begin, end)):
                source, target = sources[part][head], targets[part][head]
                target[:exact] = source[:exact]
                target[first:] = source[self.first - self.coded.stored : self.end - self.coded.stored]

        share(2 * heads, copy)


def _bytes(x: Tensor) -> np.ndarray:
    """[G, S, bytes] of [G, S, D]."""
    array: np.ndarray = x.view(torch.uint8).numpy()
    return array
