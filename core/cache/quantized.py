"""A cache of few bits: keys quantized by channel, values by token, the most recent tokens exact (KIVI).

Block b holds the tokens s + b · g … s + b · g + g − 1 after the first s = `sinks`, g = `group_size`, as codes (see
core/cache/coded.py). What no block holds stands in plain buffers, the first tokens first. The first tokens stay exact because
they get most of the attention and have keys unlike the others', which would stretch the range of their block (Hooper et al.
2024, KVQuant, arXiv 2401.18079).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from core.attention.mask import Reach
from core.cache.base import Buffers, Cache, Coded, Held, KeyValues, Layout, Slots, Versions
from core.cache.coded import CodedBlocks, CodedForm
from core.cache.table import QuantizedOptions
from core.errors import RunFailed

_LONGEST_DRAFT = 64  # rows of a pass that may be taken back
_ALWAYS = 2**62


class Quantized(Cache):
    """A block closes for the query at position p once `residual` tokens up to p follow it.

    So what a query sees depends on its position alone: rows of one pass see a block that closes between them in both forms,
    each its own, and a prompt comes out the same in chunks of any size. Blocks are stored when a pass begins after they have
    closed, so that all rows of the last pass can be taken back, but for a pass longer than any draft, whose blocks are
    stored at once.
    """

    def __init__(self, options: QuantizedOptions, layout: Layout) -> None:
        super().__init__(options, layout)
        self.group, self.residual, self.sinks = options.group_size, options.residual, options.sinks
        self.closed = self.encoded = 0  # blocks that are stored, and those whose codes are there already
        self.tail = Buffers(layout, min(layout.tokens, self._tail))
        layers = range(len(layout.kv_heads))
        forms = [CodedForm.of(options.bits, self.group, layout.size(layer)) for layer in layers]
        self.blocks = CodedBlocks(forms, layout.kv_heads)
        self._pass: tuple[Tensor, Versions | None, int] | None = None  # of the pass that has begun

    @property
    def _tail(self) -> int:
        """The most exact tokens between two passes."""
        return self.sinks + self.residual + self.group

    def _due(self, position: int) -> int:
        """Blocks that are closed for the query at `position`."""
        return max(0, position + 1 - self.sinks - self.residual) // self.group

    def update(self, layer: int, k: Tensor, v: Tensor) -> KeyValues:
        positions, versions, twice = self._pass = self._pass or self._begun(len(k))
        start = self.length - self.closed * self.group
        self.tail.write(layer, start, k, v)
        exact = self.tail.keys[layer][:, : start + len(k)], self.tail.values[layer][:, : start + len(k)]
        parts = [exact]
        if twice:
            self._encode(layer, exact, twice)
        if self.closed + twice:
            parts.insert(0, self.blocks.plain(layer, self.closed + twice, self.layout.dtype))
        keys, values = (torch.cat(part, dim=1) if len(part) > 1 else part[0] for part in zip(*parts, strict=True))
        return KeyValues(keys, values, positions, versions=versions)

    def _begun(self, rows: int) -> tuple[Tensor, Versions | None, int]:
        """A pass begins: store what has closed, make room. Positions of the slots, who sees them, and blocks in both forms."""
        self._close(self._due(self.length))
        stored, end = self.closed * self.group, self.length + rows
        if end - stored > self.tail.capacity:
            self.tail.resize(end - stored)
        twice = self._due(end - 1) - self.closed
        self._make_room(self.closed + twice)
        exact = torch.arange(end - stored)
        exact = torch.where(exact < self.sinks, exact, exact + stored)
        positions = torch.cat((self.sinks + torch.arange(stored + twice * self.group), exact))
        return positions, self._versions(positions, twice) if twice else None, twice

    def _versions(self, positions: Tensor, twice: int) -> Versions:
        """Two forms of `twice` blocks after the stored ones: exact before a block closes, coded from then on."""
        coded = slice(self.closed * self.group, (self.closed + twice) * self.group)
        exact = slice(coded.stop + self.sinks, coded.stop + self.sinks + twice * self.group)
        closed = ((positions[coded] - self.sinks) // self.group + 1) * self.group  # tokens in blocks once that of each closes
        closes = self.sinks + closed + self.residual - 1
        since, until = torch.zeros_like(positions), torch.full_like(positions, _ALWAYS)
        since[coded] = until[exact] = closes
        return Versions(since, until)

    def slots(self, rows: int, reaches: Sequence[Reach]) -> Slots | None:
        """None for passes that bring tokens of a block which closes within them, and for long ones."""
        if rows > min(self.residual, _LONGEST_DRAFT) or not self._is_plain(reaches):
            return None
        slots, twice = self._slots(rows)
        self._encode_all(twice)
        return slots

    def prompt_slots(self, rows: int, reaches: Sequence[Reach]) -> Slots | None:
        if not self._is_plain(reaches):
            return None
        slots, twice = self._slots(rows)
        assert slots.coded is not None
        return replace(slots, coded=replace(slots.coded, fresh=twice))

    def _is_plain(self, reaches: Sequence[Reach]) -> bool:
        """Whether compiled code reads these numbers, and every query sees all before it."""
        full = all(reach.window is None or reach.window >= self.layout.tokens for reach in reaches)
        return full and self.layout.dtype != torch.float16

    def _slots(self, rows: int) -> tuple[Slots, int]:
        """Of a pass that begins, and how many blocks its rows see in both forms."""
        positions, _, twice = self._pass = self._begun(rows)
        stored = self.closed * self.group
        start = self.length - stored
        seen = tuple(self._due(self.length + row) * self.group for row in range(rows))
        return Slots(start, start, self.tail, positions, Coded(self.blocks, seen, stored, self.sinks)), twice

    def _encode_all(self, count: int) -> None:
        for layer, exact in enumerate(zip(self.tail.keys, self.tail.values, strict=True)):
            if count:
                self._encode(layer, exact, count)

    def _encode(self, layer: int, exact: tuple[Tensor, Tensor], count: int) -> None:
        """Put the first `count` blocks of the tail `exact` behind those that are stored."""
        k, v = (part[:, self.sinks : self.sinks + count * self.group] for part in exact)
        self.blocks.encode(layer, self.closed, k, v)

    def _make_room(self, due: int) -> None:
        if due > self.blocks.capacity:
            self.blocks.reserve(self._room(due), self.closed)

    def _close(self, due: int) -> None:
        """Move blocks from the tail into their stored form, until `due` are."""
        count = due - self.closed
        if count <= 0:
            return
        if due > self.encoded:
            self._make_room(due)
            self._encode_all(count)
        self.tail.drop(self.sinks, count * self.group, self.length - self.closed * self.group)
        self.closed = due

    def _room(self, due: int) -> int:
        """Blocks to make room for: all of the run's once that is at most twice of what is needed."""
        whole = self._due(self.layout.tokens - 1)
        return whole if due <= whole <= 2 * due else 2 * due

    def advance(self, count: int) -> None:
        super().advance(count)
        self.encoded = self.closed + (self._pass[2] if self._pass else 0)
        self._pass = None
        if count > _LONGEST_DRAFT:
            self._close(self._due(self.length - 1))
            self.tail.resize(min(self.layout.tokens, self._tail))

    def trim(self, length: int) -> None:
        if length >= self.length:
            return
        if length and self._due(length) < self.closed:
            raise RunFailed(
                f"the quantized cache cannot go back to {length} of {self.length} tokens: the exact numbers of what it has "
                f"quantized are gone, and the last {self.residual} tokens of {length} must be exact"
            )
        self.length, self._pass = length, None
        self.encoded = min(self.encoded, max(0, length - self.sinks) // self.group)
        if not length:
            self.closed = 0

    def held(self) -> Held:
        stored = self.closed * self.group
        places = torch.arange(self.length)
        coded = (places >= self.sinks) & (places < self.sinks + stored)
        numbers = self.layout.token_nbytes / self.layout.dtype.itemsize
        each = 8 * self.blocks.held_nbytes(1) / self.group
        return Held.alike(places, torch.where(coded, each / numbers, self.number_bits))

    @property
    def nbytes(self) -> int:
        return self.tail.nbytes + self.blocks.nbytes

    @property
    def tokens(self) -> int:
        return self.length

    @property
    def read_nbytes(self) -> int:
        exact = self.length - self.closed * self.group
        return exact * self.layout.token_nbytes + self.blocks.held_nbytes(self.closed)
