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

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from core.cache.base import lines
from core.cache.groups import grouped
from core.compiled.emitter import LANES
from core.compiled.jit import callable_at
from core.weights.kernel import Format, pack
from core.weights.unpacking import UNPACKER_ARGUMENTS, unpacker

_NARROWED = (1.0, 0.9, 0.8, 0.7)  # of the range of a token's values: outliers there matter less than all the others


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

    def encoded(self, k: Tensor, v: Tensor) -> Tensor:
        """Records uint8 [G, blocks, nbytes] of k and v [G, blocks · g, D]."""
        k, v = (self._blocks(part.float()) for part in (k, v))
        key_codes, *of_keys = grouped(k.transpose(-1, -2), self.bits)
        split = v.view(*v.shape[:3], self.sizes[1] // self.channels, self.channels)
        value_codes, *of_values = grouped(split, self.bits, (1.0,) if self.bits == 8 else _NARROWED)
        packed = self._packed(key_codes.transpose(-1, -2), 0), self._packed(value_codes.flatten(-2).transpose(-1, -2), 1)
        scales = [[_bytes(part) for part in of_keys], [_bytes(part.transpose(-1, -2)) for part in of_values]]
        return torch.cat([packed[0], *scales[0], packed[1], *scales[1]], dim=-1)

    def _blocks(self, x: Tensor) -> Tensor:
        """[G, blocks · g, D] as [G, blocks, g, D]."""
        return x.reshape(len(x), x.shape[1] // self.group, self.group, x.shape[2])

    def _packed(self, codes: Tensor, part: int) -> Tensor:
        """uint8 [G, blocks, bytes] of codes [G, blocks, rows, columns]."""
        rows, columns = self.matrices[part]
        padded = codes.new_zeros(*codes.shape[:2], rows, columns)
        padded[:, :, : codes.shape[2], : codes.shape[3]] = codes
        packed = pack(padded.flatten(0, 2).numpy(), self.bits)
        return torch.from_numpy(packed).view(*codes.shape[:2], self.parts[3 * part])

    def plain(self, records: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values [G, blocks · g, D] that records [G, blocks, nbytes] stand for."""
        k, key_scales, key_zeros, v, value_scales, value_zeros = self._split(records)
        k = torch.addcmul(key_zeros[:, :, None], self._unpacked(k, 0), key_scales[:, :, None])
        v = self._unpacked(v, 1)
        v = v.view(*v.shape[:2], self.sizes[1] // self.channels, self.channels, self.group)
        v = torch.addcmul(value_zeros[:, :, :, None], v, value_scales[:, :, :, None]).flatten(2, 3).transpose(2, 3)
        return k.to(dtype).flatten(1, 2), v.to(dtype).flatten(1, 2)

    def _split(self, records: Tensor) -> list[Tensor]:
        """Codes as bytes; scales and zeros float32, those of values [G, blocks, D / c, g]."""
        parts = list(torch.split(records, list(self.parts), dim=-1))
        for index, part in enumerate(parts):
            if index % 3:
                parts[index] = part.contiguous().view(torch.float16).float()
        parts[4:] = (part.view(*part.shape[:2], self.sizes[1] // self.channels, self.group) for part in parts[4:])
        return parts

    def _unpacked(self, codes: Tensor, part: int) -> Tensor:
        """Codes float32 [G, blocks, rows, columns] of bytes, without what they were padded with.

        In the calling thread alone: the others may be waiting in the middle of a compiled pass.
        """
        (rows, columns), (G, blocks, _) = self.matrices[part], codes.shape
        numbers, held = torch.empty(G, blocks, rows, columns), codes.contiguous()
        ones, zeros = np.ones(G * blocks * rows, np.float16), np.zeros(G * blocks * rows, np.float16)
        run = callable_at(unpacker(self.codes, torch.float32), UNPACKER_ARGUMENTS)
        addresses = held.data_ptr(), ones.ctypes.data, zeros.ctypes.data, numbers.data_ptr()
        run(*addresses, 1, columns // self.codes.unit, 4 * columns, 0, len(ones) // LANES)
        tokens, size = (self.group, self.sizes[0]) if part == 0 else (self.sizes[1], self.group)
        return numbers[:, :, :tokens, :size]


def _whole(count: int, run: int) -> int:
    """`count`, rounded up to whole runs."""
    return -(-count // run) * run


def _bytes(numbers: Tensor) -> Tensor:
    """float16 [G, blocks, ...] as bytes [G, blocks, n]."""
    return numbers.contiguous().flatten(2).view(torch.uint8)


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

    def plain(self, layer: int, count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values [G, count · g, D] of the first `count` blocks."""
        return self.forms[layer].plain(self.records[layer][:, :count], dtype)

    def held_nbytes(self, count: int) -> int:
        """Of the first `count` blocks of every layer."""
        return count * sum(heads * form.nbytes for heads, form in zip(self.kv_heads, self.forms, strict=True))

    @property
    def nbytes(self) -> int:
        return self.held_nbytes(self.capacity)
