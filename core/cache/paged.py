"""A cache in blocks that sequences share: across runs with the same beginning, and between branches (PagedAttention)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Self
from weakref import finalize

import numpy as np
import torch
from torch import Tensor

from core.attention.mask import Reach
from core.cache.base import Buffers, Cache, Held, KeyValues, Layout, Slots
from core.cache.pool import Pool, named
from core.cache.table import PagedOptions
from core.decoder.rope_scaling import regime


class Paged(Cache):
    """Position p lives in block `table`[p // block_size] of the pool.

    Whole blocks are named by the tokens in and before them, and by what else shapes their keys, so that `adopt` finds those
    of earlier runs. A block that another table refers to is copied before it is written to.
    """

    def __init__(self, options: PagedOptions, layout: Layout) -> None:
        super().__init__(options, layout)
        self.options, self.size = options, options.block_size
        place = Pool, self.size, layout.kv_heads, layout.head_size, layout.sizes, layout.dtype
        self.pool: Pool = layout.pools.get(place) or layout.pools.setdefault(place, Pool(layout, self.size))
        self.table: list[int] = []
        self._slots = torch.empty(0, dtype=torch.long)  # of every position that the table has room for
        self._names: list[bytes] = []  # of the table's first blocks, those that are whole
        self._ready = False  # whether this pass has its blocks
        self._ordered: Buffers | None = None  # all tokens of this pass by position, while it lasts
        finalize(self, self.pool.release, self.table)

    def _last_name(self) -> bytes:
        """Of the last whole block; before the first one, of what else shapes keys and values."""
        if self._names:
            return self._names[-1]
        return repr((self.layout.shaped_by, [rope and regime(rope.rope, self.span) for rope in self.layout.ropes])).encode()

    def adopt(self, tokens: Sequence[int]) -> int:
        found: list[int] = []
        for start in range(0, len(tokens) - self.size, self.size):  # one token at least is left to be computed
            name = named(self._last_name(), tokens[start : start + self.size])
            block = self.pool.find(name)
            if block is None:
                break
            found.append(block)
            self._names.append(name)
        for block in found:
            self.pool.share(block)
        self._extend(found)
        self.length = len(found) * self.size
        return self.length

    def note(self, tokens: Sequence[int]) -> None:
        for index in range(len(self._names), self.length // self.size):
            self._names.append(named(self._last_name(), tokens[index * self.size : (index + 1) * self.size]))
            self.pool.name(self.table[index], self._names[-1])

    def _extend(self, blocks: Sequence[int]) -> None:
        self.table.extend(blocks)
        first = torch.tensor(blocks, dtype=torch.long)[:, None] * self.size
        self._slots = torch.cat((self._slots, (first + torch.arange(self.size)).flatten()))

    def _make_ready(self, rows: int) -> None:
        """Blocks for the next `rows` tokens, which nobody else refers to."""
        if self._ready:
            return
        place = self.length // self.size
        if self.length % self.size and place < len(self.table):
            self._own(place)
        missing = -(-(self.length + rows) // self.size) - len(self.table)
        if missing > 0:
            self._extend(self.pool.take(missing, self.table[-1] if self.table else -1))
        self._ready = True

    def _own(self, place: int) -> None:
        """Make the table's block at `place` one that can be written to."""
        block = self.table[place]
        if self.pool.counts[block] == 1:
            self.pool.unname(block)
            return
        (copy,) = self.pool.take(1, self.table[place - 1] if place else -1)
        self.pool.copy(block, copy)
        self.pool.release([block])
        self.table[place] = copy
        self._slots[place * self.size : (place + 1) * self.size] = copy * self.size + torch.arange(self.size)

    def update(self, layer: int, k: Tensor, v: Tensor) -> KeyValues:
        self._make_ready(len(k))
        end = self.length + len(k)
        first, buffers = (self._first(), self.pool.buffers) if self._ordered is None else (0, self._ordered)
        if first is not None:
            buffers.write(layer, first + self.length, k, v)
            keys, values = (part[layer][:, first : first + end] for part in (buffers.keys, buffers.values))
            return KeyValues(keys, values, torch.arange(end))
        slots, parts = self._slots[:end], (self.pool.buffers.keys[layer], self.pool.buffers.values[layer])
        for part, fed in zip(parts, (k, v), strict=True):
            part[:, slots[self.length :]] = fed.transpose(0, 1).to(self.layout.dtype)
        keys, values = (part[:, slots] for part in parts)
        return KeyValues(keys, values, torch.arange(end))

    def _first(self) -> int | None:
        """Where position 0 lives, if all others follow it."""
        first = int(self._slots[0])
        return first if torch.equal(self._slots, torch.arange(first, first + len(self._slots))) else None

    def slots(self, rows: int, reaches: Sequence[Reach]) -> Slots | None:
        if self.layout.dtype == torch.float16:
            return None
        self._ready, self._ordered = False, None  # whatever a pass that failed has left
        self._make_ready(rows)
        end = self.length + rows
        table = None if self._first() == 0 else self._slots[:end]
        return Slots(self.length, self.length, self.pool.buffers, torch.arange(end), table=table)

    def prompt_slots(self, rows: int, reaches: Sequence[Reach]) -> Slots | None:
        """Blocks out of order are put in order for as long as the pass lasts: it reads each key many times."""
        slots = self.slots(rows, reaches)
        if slots is None:
            return None
        first = self._first()
        if first is not None:
            return replace(slots, table=None, begin=first)
        self._ordered, held = Buffers(self.layout, self.length + rows), self._slots[: self.length]
        for part, ordered in self._parts(self._ordered):
            ordered[:, : self.length] = part[:, held]
        return replace(slots, buffers=self._ordered, table=None)

    def _parts(self, ordered: Buffers) -> Iterator[tuple[Tensor, Tensor]]:
        """Keys and values of each layer, in blocks and in order."""
        pool = self.pool.buffers
        return zip((*pool.keys, *pool.values), (*ordered.keys, *ordered.values), strict=True)

    def advance(self, count: int) -> None:
        new = slice(self.length, self.length + count)
        if self._ordered is not None:
            for part, ordered in self._parts(self._ordered):
                part[:, self._slots[new]] = ordered[:, new]
        super().advance(count)
        self._ready, self._ordered = False, None

    def trim(self, length: int) -> None:
        self.length, self._ready, self._ordered = min(self.length, length), False, None
        kept = -(-self.length // self.size)
        self.pool.release(self.table[kept:])
        del self.table[kept:], self._names[self.length // self.size :]
        self._slots = self._slots[: kept * self.size]

    def fork(self) -> Self:
        branch = type(self)(self.options, self.layout)
        for block in self.table:
            self.pool.share(block)
        branch._extend(self.table)
        branch._names, branch.length = list(self._names), self.length
        return branch

    def held(self) -> Held:
        return replace(super().held(), blocks=np.array(self.table, np.int32), block_size=self.size)

    @property
    def nbytes(self) -> int:
        return len(self.table) * self.pool.block_nbytes

    @property
    def tokens(self) -> int:
        return self.length
