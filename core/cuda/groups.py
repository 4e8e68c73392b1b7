"""Packed codes as the kernels read them: 32-bit words of two halves, with 4 codes of 4 bits or 2 of 8 in each.

A chunk is U words of a row. Place p of the words' halves holds 2U neighbouring columns: the low half of word i the chunk's
column 2Up + 2i, the high half the next one. So a kernel reads activations in order, a word yields neighbours in pairs as tensor
cores take them, and all codes at one place of a chunk share their group's scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_UNITS = (64, 32, 16, 8)  # words of a chunk: the first of which the size of a group is a multiple of two


@dataclass(frozen=True)
class Groups:
    """A matrix [N, K]. words int32 [N, chunks · U]; scales and offsets [groups, N], float16 where that loses nothing.

    A code q means q · scale + offset, or (q − zero) · scale where offsets is None. The last group may be short, and codes past
    column K are zero.
    """

    words: Tensor
    scales: Tensor
    offsets: Tensor | None
    bits: int
    zero: int
    group_size: int
    unit: int
    columns: int

    @classmethod
    def of(cls, codes: Tensor, scales: Tensor, offsets: Tensor | None, bits: int, group_size: int) -> Groups:
        """codes uint8 [N, K] of `bits` bits; scales and offsets float32 [N, groups].

        Codes of 2 and 3 bits take 4, of 5 to 7 take 8. Raises ValueError when a group's size is no multiple of 16 columns,
        and is not the whole row.
        """
        columns, held = codes.shape[1], 4 if bits <= 4 else 8
        unit = _unit(group_size, columns)
        zero = 0 if offsets is not None else 1 << (bits - 1)
        exact = (_halved(part.T.contiguous()) for part in (scales, offsets) if part is not None)
        return cls(_packed(codes, held, unit), next(exact), next(exact, None), held, zero, group_size, unit, columns)

    @property
    def rows(self) -> int:
        return len(self.words)

    @property
    def chunks(self) -> int:
        return self.words.shape[1] // self.unit

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in (self.words, self.scales, self.offsets) if part is not None)

    def values(self, rows: Tensor | slice = slice(None)) -> Tensor:
        """The chosen rows as float32 [n, K]."""
        halves = self.words[rows].contiguous().view(torch.int16).view(-1, self.chunks, 1, 2 * self.unit).int()
        places = torch.arange(0, 16, self.bits, dtype=torch.int32, device=self.words.device)[:, None]
        codes = (halves >> places) & ((1 << self.bits) - 1)  # [n, chunks, places, 2U]
        codes = codes.flatten(1)[:, : self.columns] - self.zero
        values = codes * self._spread(self.scales, rows)
        return values if self.offsets is None else values + self._spread(self.offsets, rows)

    def _spread(self, parts: Tensor, rows: Tensor | slice) -> Tensor:
        """[groups, N] to [n, K]: of each column's group."""
        return parts.T[rows].float().repeat_interleave(self.group_size, dim=1)[:, : self.columns]


def _unit(group_size: int, columns: int) -> int:
    for unit in _UNITS:
        if group_size % (2 * unit) == 0 or group_size >= columns:
            return unit
    raise ValueError(f"groups of {group_size} columns are no multiple of {2 * _UNITS[-1]}")


def _packed(codes: Tensor, bits: int, unit: int) -> Tensor:
    """codes uint8 [N, K] to int32 [N, chunks · unit], columns padded with zeros to whole chunks."""
    per = 16 // bits
    padded = torch.nn.functional.pad(codes, (0, -codes.shape[1] % (per * 2 * unit)))
    chunks = padded.view(len(codes), -1, per, 2 * unit)
    halves = chunks[:, :, 0].short()
    for place in range(1, per):
        halves |= chunks[:, :, place].short() << (bits * place)
    return halves.flatten(1).view(torch.int32)


def _halved(values: Tensor) -> Tensor:
    half = values.half()
    return half if torch.equal(half.float(), values) else values
