"""A cache of few bits: keys quantized by channel, values by token, the most recent tokens exact (KIVI).

Memory layout, for compiled attention: each layer holds contiguous arrays over its KV heads G and over blocks of g =
`group_size` consecutive tokens, block b being the tokens s + b · g … s + b · g + g − 1 after the first s = `sinks`:

    key_codes     uint8   [G, blocks, g, bytes]     a row of D packed codes a token, see core/cache/groups.py
    key_scales    float16 [G, blocks, D]            and key_zeros: one for each channel of a block
    value_codes   uint8   [G, blocks, g, bytes]
    value_scales  float16 [G, blocks, g, D / c]     and value_zeros: one for each c channels of a token

c is 2g, or D where that is no divisor of D. What no block holds stands in plain buffers, the first tokens first. The first
tokens stay exact because they get most of the attention and have keys unlike the others', which would stretch the range of
their block (Hooper et al. 2024, KVQuant, arXiv 2401.18079).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core.cache.base import Buffers, Cache, KeyValues, Layout, Versions
from core.cache.groups import grouped, packed, unpacked
from core.cache.table import QuantizedOptions
from core.errors import RunFailed

_LONGEST_DRAFT = 64  # rows of a pass that may be taken back
_ALWAYS = 2**62


@dataclass(frozen=True)
class _Form:
    """How blocks are stored. channels: values that share a scale."""

    bits: int
    group: int
    channels: int

    def keys(self, k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Bytes, scales and zeros of k [G, blocks, g, D]."""
        codes, scales, zeros = grouped(k.float().transpose(-1, -2), self.bits)
        return packed(codes.transpose(-1, -2), self.bits), scales, zeros

    def values(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Bytes, scales and zeros of v [G, blocks, g, D]."""
        codes, scales, zeros = grouped(v.float().unflatten(-1, (-1, self.channels)), self.bits)
        return packed(codes.flatten(-2), self.bits), scales, zeros

    def plain_keys(self, codes: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
        """[G, blocks · g, D] float32."""
        numbers = unpacked(codes, self.bits, scales.shape[-1]).float()
        return torch.addcmul(zeros.float()[:, :, None], numbers, scales.float()[:, :, None]).flatten(1, 2)

    def plain_values(self, codes: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
        """[G, blocks · g, D] float32."""
        numbers = unpacked(codes, self.bits, self.channels * scales.shape[-1]).unflatten(-1, (-1, self.channels)).float()
        return torch.addcmul(zeros.float()[..., None], numbers, scales.float()[..., None]).flatten(-2).flatten(1, 2)


class _Blocks:
    """The closed blocks of one layer; see the layout above."""

    def __init__(self, form: _Form, heads: int, sizes: tuple[int, int]) -> None:
        self.form, self.closed = form, 0
        self.arrays = self.encoded(*(torch.zeros(heads, 0, size) for size in sizes))

    def close(self, k: Tensor, v: Tensor, room: int) -> None:
        """Store the next blocks of k and v [G, blocks · g, D]; `room`: blocks to make room for where there is none."""
        new = self.encoded(k, v)
        end = self.closed + new[0].shape[1]
        if end > self.arrays[0].shape[1]:
            grown = [old.new_zeros(old.shape[0], max(end, room), *old.shape[2:]) for old in self.arrays]
            for old, array in zip(self.arrays, grown, strict=True):
                array[:, : self.closed] = old[:, : self.closed]
            self.arrays = tuple(grown)
        for array, part in zip(self.arrays, new, strict=True):
            array[:, self.closed : end] = part
        self.closed = end

    def encoded(self, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """What stands for k and v [G, blocks · g, D]."""
        blocks = k.shape[1] // self.form.group, self.form.group
        return (*self.form.keys(k.unflatten(1, blocks)), *self.form.values(v.unflatten(1, blocks)))

    def plain(self, arrays: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values [G, blocks · g, D] that `arrays` stand for."""
        return self.form.plain_keys(*arrays[:3]).to(dtype), self.form.plain_values(*arrays[3:]).to(dtype)

    @property
    def held(self) -> tuple[Tensor, ...]:
        return tuple(array[:, : self.closed] for array in self.arrays)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)


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
        self.closed = 0  # blocks that are stored
        self.tail = Buffers(layout, min(layout.tokens, self._tail))
        self.blocks = [
            _Blocks(self._form(layer, options.bits), heads, layout.size(layer)) for layer, heads in enumerate(layout.kv_heads)
        ]
        self._pass: tuple[Tensor, Versions | None, int] | None = None  # of the pass that has begun

    def _form(self, layer: int, bits: int) -> _Form:
        size, many = self.layout.size(layer)[1], 2 * self.group
        return _Form(bits, self.group, size if size % many else many)

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
        exact = tuple(part[layer][:, : start + len(k)] for part in (self.tail.keys, self.tail.values))
        parts, blocks = [exact], self.blocks[layer]
        if twice:
            arrays = blocks.encoded(*(part[:, self.sinks : self.sinks + twice * self.group] for part in exact))
            parts.insert(0, blocks.plain(arrays, self.layout.dtype))
        if self.closed:
            parts.insert(0, blocks.plain(blocks.held, self.layout.dtype))
        keys, values = (torch.cat(part, dim=1) if len(part) > 1 else part[0] for part in zip(*parts, strict=True))
        return KeyValues(keys, values, positions, versions=versions)

    def _begun(self, rows: int) -> tuple[Tensor, Versions | None, int]:
        """A pass begins: store what has closed, make room. Positions of the slots, who sees them, and blocks in both forms."""
        self._close(self._due(self.length))
        stored, end = self.closed * self.group, self.length + rows
        if end - stored > self.tail.capacity:
            self.tail.resize(end - stored)
        twice = self._due(end - 1) - self.closed
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

    def _close(self, due: int) -> None:
        """Move blocks from the tail into their stored form, until `due` are."""
        count = (due - self.closed) * self.group
        if count <= 0:
            return
        for blocks, k, v in zip(self.blocks, self.tail.keys, self.tail.values, strict=True):
            blocks.close(*(part[:, self.sinks : self.sinks + count] for part in (k, v)), self._room(due))
        self.tail.drop(self.sinks, count, self.length - self.closed * self.group)
        self.closed = due

    def _room(self, due: int) -> int:
        """Blocks to make room for: all of the run's once that is at most twice of what is needed."""
        whole = self._due(self.layout.tokens - 1)
        return whole if due <= whole <= 2 * due else 2 * due

    def advance(self, count: int) -> None:
        super().advance(count)
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
        if not length:
            self.closed = 0
            for blocks in self.blocks:
                blocks.closed = 0

    @property
    def nbytes(self) -> int:
        return self.tail.nbytes + sum(blocks.nbytes for blocks in self.blocks)

    @property
    def tokens(self) -> int:
        return self.length

    @property
    def read_nbytes(self) -> int:
        exact = self.length - self.closed * self.group
        return exact * self.layout.token_nbytes + sum(part.nbytes for blocks in self.blocks for part in blocks.held)
