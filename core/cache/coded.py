"""Blocks of a few tokens as codes of a few bits: how one is laid out, and memory for those of all layers.

A block is one record of bytes, and the records of one KV head stand one after the other, so that attention reads them in
order. A record of g tokens holds, in this order:

    keys           codes, packed: a matrix of g rows (the tokens) and D columns, see `pack` in core/weights/kernel.py
    key scales     float16 [D], then key zeros: one for each channel
    values         codes, packed: a matrix of D rows (the channels) and g columns
    value scales   float16 [D / c, g], then value zeros: one for each c channels of a token

Rows are padded to whole blocks of sixteen and columns to whole units. So sixteen tokens of keys, or sixteen channels of values,
lie side by side: compiled attention computes one in each vector lane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from core.cache.base import lines
from core.cache.from_codes import EXPANDER_ARGUMENTS, expander
from core.cache.to_codes import ENCODER_ARGUMENTS, encoder
from core.compiled.emitter import LANES
from core.compiled.jit import callable_at
from core.weights.kernel import Format

Share = Callable[[int, Callable[[int, int], None]], None]  # as Crew.share


def alone(count: int, work: Callable[[int, int], None]) -> None:
    """All of the work in the calling thread: the others may be waiting in the middle of a compiled pass."""
    work(0, count)


@dataclass(frozen=True)
class CodedForm:
    """A block of `group` tokens in numbers of `bits` bits. sizes: D of a key and of a value. channels: values that share a
    scale."""

    bits: int
    group: int
    sizes: tuple[int, int]
    channels: int

    @classmethod
    def of(cls, bits: int, group: int, sizes: tuple[int, int]) -> CodedForm:
        return cls(bits, group, sizes, sizes[1] if sizes[1] % (2 * group) else 2 * group)

    @property
    def codes(self) -> Format:
        """As products know them; scales are the record's own."""
        return Format(self.bits, symmetric=False, half=True)

    @property
    def matrices(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Padded rows and columns of the packed keys and values."""
        keys, values = self.sizes
        return (_whole(self.group, LANES), _whole(keys, self.codes.unit)), (
            _whole(values, LANES),
            _whole(self.group, self.codes.unit),
        )

    @property
    def parts(self) -> tuple[int, ...]:
        """Bytes of the six parts of a record."""
        keys, values = (rows * columns * self.bits // 8 for rows, columns in self.matrices)
        of_keys, of_values = 2 * self.sizes[0], 2 * self.group * (self.sizes[1] // self.channels)
        return keys, of_keys, of_keys, values, of_values, of_values

    @property
    def places(self) -> tuple[int, ...]:
        """Where the six parts begin, and where the record ends."""
        return (0, *accumulate(self.parts))

    @property
    def nbytes(self) -> int:
        """Of a record."""
        return sum(self.parts)

    def encode(self, k: Tensor, v: Tensor, records: Tensor, share: Share = alone) -> None:
        """Write the records uint8 [G, blocks, nbytes] of k and v [G, blocks · g, D].

        Tokens of k and v stand one after the other, and their heads are equally many tokens apart.

        Records go where they stay: copies by torch's threads would take longer than this on a busy machine.
        """
        G, blocks, _ = records.shape
        run = callable_at(encoder(self, k.dtype), ENCODER_ARGUMENTS)
        addresses = k.data_ptr(), v.data_ptr(), _slots(k, v), records.data_ptr(), records.stride(0) // self.nbytes
        share(G * blocks, lambda first, last: run(*addresses, blocks, first, last))

    def expand(self, records: Tensor, keys: Tensor, values: Tensor, share: Share = alone) -> None:
        """Write the float32 or bfloat16 numbers that records [G, blocks, nbytes] stand for to keys and values
        [G, blocks · g, D], which stand as those of `encode`."""
        G, blocks, _ = records.shape
        run = callable_at(expander(self, keys.dtype), EXPANDER_ARGUMENTS)
        addresses = records.data_ptr(), records.stride(0) // self.nbytes, keys.data_ptr(), values.data_ptr()
        share(G * blocks, lambda first, last: run(*addresses, _slots(keys, values), blocks, first, last))

    def plain(self, records: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values [G, blocks · g, D] that records [G, blocks, nbytes] stand for."""
        made = torch.float32 if dtype == torch.float16 else dtype
        tokens = records.shape[1] * self.group
        keys, values = (torch.empty(len(records), tokens, size, dtype=made) for size in self.sizes)
        self.expand(records, keys, values)
        return keys.to(dtype), values.to(dtype)


def _slots(*parts: Tensor) -> int:
    """Tokens from one head of keys and values [G, S, D] to the next."""
    counts = {part.stride(0) // part.shape[2] for part in parts if part.numel()}
    return counts.pop() if counts else 0


def _whole(count: int, run: int) -> int:
    """`count`, rounded up to whole runs."""
    return -(-count // run) * run


class CodedBlocks:
    """Records of every layer, [G, capacity, nbytes] each, in one piece of memory."""

    def __init__(self, forms: Sequence[CodedForm], kv_heads: Sequence[int]) -> None:
        self.forms, self.kv_heads = tuple(forms), tuple(kv_heads)
        self._allocate(0)

    def _allocate(self, capacity: int) -> None:
        shapes = [(heads, capacity, form.nbytes) for heads, form in zip(self.kv_heads, self.forms, strict=True)]
        sizes = [heads * count * nbytes for heads, count, nbytes in shapes]
        parts = torch.split(lines(sum(sizes)), sizes)
        self.records = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
        self.capacity = capacity

    def reserve(self, capacity: int, held: int) -> None:
        """Room for `capacity` blocks, keeping the first `held`."""
        before = self.records
        self._allocate(capacity)
        for old, new in zip(before, self.records, strict=True):
            new[:, :held] = old[:, :held]

    def encode(self, layer: int, first: int, k: Tensor, v: Tensor, share: Share = alone) -> None:
        """Put k and v [G, blocks · g, D] into the blocks from `first` on; see `CodedForm.encode`."""
        form = self.forms[layer]
        form.encode(k, v, self.records[layer][:, first : first + k.shape[1] // form.group], share)

    def expand(self, layer: int, keys: Tensor, values: Tensor, share: Share = alone) -> None:
        """Write what the first blocks stand for to keys and values [G, blocks · g, D]; see `CodedForm.expand`."""
        form = self.forms[layer]
        form.expand(self.records[layer][:, : keys.shape[1] // form.group], keys, values, share)

    def plain(self, layer: int, count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values [G, count · g, D] of the first `count` blocks."""
        return self.forms[layer].plain(self.records[layer][:, :count], dtype)

    def held_nbytes(self, count: int) -> int:
        """Of the first `count` blocks of every layer."""
        return count * sum(heads * form.nbytes for heads, form in zip(self.kv_heads, self.forms, strict=True))

    @property
    def nbytes(self) -> int:
        return self.held_nbytes(self.capacity)
