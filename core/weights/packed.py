"""Matrices of 2- to 8-bit codes with a scale (and offset) for each group of input columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numba import njit

from core.decoder.linear import Linear, Part
from core.weights.kernel import LANES, MOST_ROWS, OCTET, Format, pack, product

# From this many rows on, unpacking once and a dense product beat one pass over the packed codes for every eight rows.
_DENSE_ROWS = 65


@dataclass(frozen=True)
class Codes:
    """A matrix before packing: codes uint8 [N, K]; scales and offsets float32 [N, K/group_size].

    The last group may be short. offsets None: a code q means (q − 2^(bits−1)) · scale.
    """

    codes: np.ndarray
    scales: np.ndarray
    offsets: np.ndarray | None
    bits: int
    group_size: int

    def values(self) -> np.ndarray:
        """[N, K] float32."""
        width = self.codes.shape[1]
        scales: np.ndarray = np.repeat(self.scales, self.group_size, axis=1)[:, :width]
        if self.offsets is None:
            values: np.ndarray = (self.codes.astype(np.float32) - np.float32(1 << (self.bits - 1))) * scales
        else:
            values = self.codes * scales + np.repeat(self.offsets, self.group_size, axis=1)[:, :width]
        return values


def joined(parts: list[Codes]) -> Codes:
    """The rows of several matrices of one format, one under the other."""
    offsets = None if parts[0].offsets is None else np.concatenate([part.offsets for part in parts])
    codes, scales = (np.concatenate([getattr(part, name) for part in parts]) for name in ("codes", "scales"))
    return Codes(codes, scales, offsets, parts[0].bits, parts[0].group_size)


class Packed(Linear):
    """A packed matrix; scales are kept in float16 where that loses nothing."""

    def __init__(self, codes: Codes, bias: torch.Tensor | None = None) -> None:
        self.out_features, self.in_features = codes.codes.shape
        self.bias = None if bias is None else bias.float()
        self.group_size, self.bits = codes.group_size, codes.bits
        self._groups = codes.scales.shape[1]
        self._octets = -(-codes.group_size // OCTET)
        self._codes = pack(_padded(codes, self._groups, self._octets * OCTET), codes.bits)
        half = all(_fits_half(part) for part in (codes.scales, codes.offsets) if part is not None)
        self._scales = _by_lane(codes.scales, half)
        self._offsets = None if codes.offsets is None else _by_lane(codes.offsets, half)
        self.format = Format(codes.bits, codes.offsets is None, half)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) >= _DENSE_ROWS:
            y = torch.nn.functional.linear(x, self.dense())
        else:
            y = torch.from_numpy(self._product(x.contiguous().numpy()))[:, : self.out_features]
        return y if self.bias is None else y + self.bias

    def parts(self) -> list[Part] | None:
        if self._octets * OCTET != self.group_size or self._groups * self.group_size != self.in_features:
            return None
        offsets = 0 if self._offsets is None else self._offsets.ctypes.data
        addresses = self._codes.ctypes.data, self._scales.ctypes.data, offsets
        shape = self._groups, self._octets, len(self._codes), self.out_features
        return [Part(product(self.format).address, *addresses, *shape)]

    def _product(self, x: np.ndarray) -> np.ndarray:
        x = self._aligned(x)
        y = np.empty((len(x), len(self._codes) * LANES), np.float32)
        sums = np.empty((len(x), self._groups), np.float32)
        _group_sums(x, sums)
        offsets = 0 if self._offsets is None else self._offsets.ctypes.data
        for first in range(0, len(x), MOST_ROWS):
            rows = min(MOST_ROWS, len(x) - first)
            product(self.format).ctypes(
                self._codes.ctypes.data, self._scales.ctypes.data, offsets,
                x[first:].ctypes.data, sums[first:].ctypes.data, y[first:].ctypes.data,
                self._groups, self._octets, y.shape[1], 0, len(self._codes), rows,
            )  # fmt: skip
        return y

    def _aligned(self, x: np.ndarray) -> np.ndarray:
        """x with each group padded to whole octets."""
        width = self._octets * OCTET
        if width * self._groups == x.shape[1] and width == self.group_size:
            return x
        full = np.zeros((len(x), self._groups * self.group_size), np.float32)
        full[:, : x.shape[1]] = x
        aligned = np.zeros((len(x), self._groups, width), np.float32)
        aligned[:, :, : self.group_size] = full.reshape(len(x), self._groups, self.group_size)
        return aligned.reshape(len(x), -1)

    @property
    def nbytes(self) -> int:
        parts = (self._codes, self._scales, self._offsets, self.bias)
        return sum(part.nbytes for part in parts if part is not None)

    def dense(self) -> torch.Tensor:
        width = self._octets * OCTET
        values = np.empty((len(self._codes) * LANES, self._groups * width), np.float32)
        offsets = self._scales if self._offsets is None else self._offsets
        _unpack(self._codes, self._scales.astype(np.float32), offsets.astype(np.float32), self._offsets is None, width, values)
        values = values.reshape(len(values), self._groups, width)[:, :, : self.group_size].reshape(len(values), -1)
        return torch.from_numpy(values[: self.out_features, : self.in_features])


def _padded(codes: Codes, groups: int, width: int) -> np.ndarray:
    """codes [N, K] with rows padded to whole lanes and each group to `width` columns."""
    n, k = codes.codes.shape
    rows = -(-n // LANES) * LANES
    if rows == n and k == groups * width:
        return codes.codes
    full = np.zeros((rows, groups * codes.group_size), np.uint8)
    full[:n, :k] = codes.codes
    padded = np.zeros((rows, groups, width), np.uint8)
    padded[:, :, : codes.group_size] = full.reshape(rows, groups, codes.group_size)
    return padded.reshape(rows, -1)


def _fits_half(values: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.array_equal(values.astype(np.float16).astype(np.float32), values))


def _by_lane(values: np.ndarray, half: bool) -> np.ndarray:
    """[N, groups] to [N/16, groups, 16], rows padded with zeros."""
    rows = -(-len(values) // LANES) * LANES
    padded = np.zeros((rows, values.shape[1]), np.float16 if half else np.float32)
    padded[: len(values)] = values
    return np.ascontiguousarray(padded.reshape(-1, LANES, values.shape[1]).transpose(0, 2, 1))


@njit(nogil=True, cache=True)
def _group_sums(x, sums):
    width = x.shape[1] // sums.shape[1]
    for row in range(len(x)):
        for group in range(sums.shape[1]):
            total = np.float32(0)
            for k in range(group * width, (group + 1) * width):
                total += x[row, k]
            sums[row, group] = total


@njit(nogil=True, cache=True)
def _unpack(packed, scales, offsets, symmetric, width, values):
    bits = packed.shape[2]
    for block in range(packed.shape[0]):
        for octet in range(packed.shape[1]):
            group = octet * OCTET // width
            for column in range(OCTET):
                for lane in range(LANES):
                    code, at, shift = 0, 0, 0
                    for candidate in (8, 4, 2, 1):
                        if bits - shift >= candidate:
                            per_byte = 8 // candidate
                            byte = packed[block, octet, at + column // per_byte, lane]
                            code |= ((byte >> ((column % per_byte) * candidate)) & ((1 << candidate) - 1)) << shift
                            shift += candidate
                            at += candidate
                    offset = -(1 << (bits - 1)) * scales[block, group, lane] if symmetric else offsets[block, group, lane]
                    values[block * LANES + lane, octet * OCTET + column] = code * scales[block, group, lane] + offset
