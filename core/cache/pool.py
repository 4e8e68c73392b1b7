"""Blocks of keys and values that the sequences of one loaded model share."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256

import numpy as np

from core.cache.base import Buffers, Layout

_FIRST_BLOCKS = 16
_KEPT_BYTES = 2**28  # up to here the pool grows rather than give up what earlier runs left
_GIVEN_UP = 128  # tokens or more at once, so that what comes next stands in one run


def named(before: bytes, tokens: Sequence[int]) -> bytes:
    """The name of a whole block of `tokens` that follows the block, or whatever else shapes keys, named `before`."""
    return sha256(before + array("q", tokens).tobytes()).digest()


class Pool:
    """Block b takes the slots b · size … b · size + size − 1 of every layer.

    A block is free, or referred to by the tables of some sequences, or idle: referred to by none, but named, so that a later
    sequence with the same tokens finds it. Idle blocks are given up when room is needed, the longest unused one first.
    """

    def __init__(self, layout: Layout, size: int) -> None:
        self.size, self.buffers = size, Buffers(layout, _FIRST_BLOCKS * size)
        self.block_nbytes = layout.token_nbytes * size
        self.counts = [0] * _FIRST_BLOCKS  # tables that refer to each block
        self._free = set(range(_FIRST_BLOCKS))
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._blocks: dict[bytes, int] = {}
        self._names: dict[int, bytes] = {}

    @property
    def free(self) -> int:
        """Blocks that hold nothing."""
        return len(self._free)

    @property
    def idle(self) -> int:
        """Blocks kept for later sequences."""
        return len(self._idle)

    def take(self, count: int, after: int = -1) -> list[int]:
        """`count` blocks to write into, each referred to once: those after block `after`, or else one run of them, where there
        is one."""
        missing = count - len(self._free)
        if missing > 0 and len(self.counts) * self.block_nbytes >= _KEPT_BYTES:
            self._give_up(max(missing, _GIVEN_UP // self.size))
            missing = count - len(self._free)
        if missing > 0:
            self._grow(missing)
        taken = list(range(after + 1, after + 1 + count))
        if not self._free.issuperset(taken):
            taken = self._run(count)
        self._free.difference_update(taken)
        for block in taken:
            self.counts[block] = 1
        return taken

    def _run(self, count: int) -> list[int]:
        """`count` blocks out of the longest run of free ones, or of the longest runs where none has as many."""
        free = np.array(sorted(self._free))
        runs = sorted(np.split(free, np.flatnonzero(np.diff(free) > 1) + 1), key=len, reverse=True)
        first, spare = int(runs[0][0]), len(runs[0]) - count
        # Whoever has the block before the run goes on in what it leaves of it.
        begin = spare // 2 if spare > 0 and first and self.counts[first - 1] else 0
        taken: list[int] = np.concatenate(runs)[begin : begin + count].tolist()
        return taken

    def _give_up(self, count: int) -> None:
        """Free up to `count` idle blocks."""
        for _ in range(min(count, len(self._idle))):
            block, _ = self._idle.popitem(last=False)
            self.unname(block)
            self._free.add(block)

    def _grow(self, count: int) -> None:
        before = len(self.counts)
        after = max(before + count, 2 * before)
        self.buffers.resize(after * self.size)
        self.counts += [0] * (after - before)
        self._free.update(range(before, after))

    def share(self, block: int) -> None:
        """One more table refers to `block`."""
        self._idle.pop(block, None)
        self.counts[block] += 1

    def release(self, blocks: Sequence[int]) -> None:
        """A table refers no longer to `blocks`, given in the order of its tokens."""
        for block in reversed(blocks):  # later tokens are of no use without the earlier ones, so they are given up first
            self.counts[block] -= 1
            if self.counts[block]:
                continue
            if block in self._names:
                self._idle[block] = None
            else:
                self._free.add(block)

    def name(self, block: int, name: bytes) -> None:
        """Let later sequences find `block`, unless another one holds the same."""
        if name not in self._blocks:
            self._blocks[name], self._names[block] = block, name

    def unname(self, block: int) -> None:
        """`block` will hold something else."""
        name = self._names.pop(block, None)
        if name is not None:
            del self._blocks[name]

    def find(self, name: bytes) -> int | None:
        return self._blocks.get(name)

    def copy(self, source: int, target: int) -> None:
        """Fill block `target` with what `source` holds."""
        old, new = (slice(block * self.size, (block + 1) * self.size) for block in (source, target))
        for part in (*self.buffers.keys, *self.buffers.values):
            part[:, new] = part[:, old]
