"""Matrices of 2- to 8-bit codes with a scale (and offset) for each group of input columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from core.compiled import tiles
from core.compiled.emitter import LANES
from core.compiled.jit import callable_at
from core.decoder.linear import Linear, Part, quick_dtype
from core.weights.activations import Quantized
from core.weights.kernel import ARGUMENTS, MOST_ROWS, Format, pack, product
from core.weights.tiled import Stored, multiplied
from core.weights.unpacking import unpacked

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
    """A packed matrix; scales are kept in float16 where that loses nothing.

    A group longer than a 32-bit sum allows is cut into equal segments that repeat its scale; a segment is padded with
    zeros to whole units of its format.
    """

    def __init__(self, codes: Codes, bias: torch.Tensor | None = None) -> None:
        half = all(_fits_half(part) for part in (codes.scales, codes.offsets) if part is not None)
        self.format = Format(codes.bits, codes.offsets is None, half)
        self.out_features, self.in_features = codes.codes.shape
        self.bias = None if bias is None else bias.float()
        self.group_size, self.bits = codes.group_size, codes.bits
        segments = -(-codes.group_size // self.format.longest)
        self._width = -(-codes.group_size // (segments * self.format.unit)) * self.format.unit
        self._groups = codes.scales.shape[1] * segments
        self._codes = pack(self._segmented(codes.codes), codes.bits)
        self._scales = _by_lane(np.repeat(codes.scales, segments, axis=1), half)
        self._offsets = None if codes.offsets is None else _by_lane(np.repeat(codes.offsets, segments, axis=1), half)

    @property
    def description(self) -> dict[str, Any]:
        """What `restored` needs besides the arrays."""
        sizes = {name: getattr(self, name) for name in ("out_features", "in_features", "group_size", "_groups", "_width")}
        return {"format": astuple(self.format), **sizes}

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """Codes, scales, and offsets where there are any."""
        return tuple(part for part in (self._codes, self._scales, self._offsets) if part is not None)

    @classmethod
    def restored(cls, description: dict[str, Any], arrays: Sequence[np.ndarray], bias: torch.Tensor | None) -> Packed:
        """The matrix that had this description and these arrays."""
        self = cls.__new__(cls)
        self.format = Format(*description["format"])
        for name in description.keys() - {"format"}:
            setattr(self, name, description[name])
        self.bits, self.bias = self.format.bits, None if bias is None else bias.float()
        self._codes, self._scales = arrays[:2]
        self._offsets = arrays[2] if len(arrays) > 2 else None
        return self

    @property
    def _uncut(self) -> int:
        """Groups as they were before they were cut into segments."""
        return -(-self.in_features // self.group_size)

    def _segmented(self, columns: np.ndarray) -> np.ndarray:
        """[N, K] with every group padded to whole segments, and rows to whole blocks where they are codes."""
        rows = -(-len(columns) // LANES) * LANES if columns.dtype == np.uint8 else len(columns)
        if (rows, self.in_features) == (len(columns), self._groups * self._width):
            return columns
        groups = self._uncut
        whole = np.zeros((rows, groups * self.group_size), columns.dtype)
        whole[: len(columns), : self.in_features] = columns
        padded = np.zeros((rows, groups, self._groups // groups * self._width), columns.dtype)
        padded[:, :, : self.group_size] = whole.reshape(rows, groups, self.group_size)
        return padded.reshape(rows, -1)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) >= _DENSE_ROWS:
            y = self.many(x)
        else:
            y = torch.from_numpy(self._product(x.contiguous().numpy()))[:, : self.out_features]
        return y if self.bias is None else y + self.bias

    @property
    def many_dtype(self) -> torch.dtype:
        return quick_dtype()

    def many(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype == torch.bfloat16 and self._fits_tiles:
            return multiplied(self._stored, x)[: len(x), : self.out_features].contiguous()
        return torch.nn.functional.linear(x, self._dense(x.dtype, passing=True))

    def many_gated(self, x: torch.Tensor, gelu: bool) -> torch.Tensor | None:
        if x.dtype == torch.bfloat16 and self._fits_tiles and self.out_features % (2 * LANES) == 0:
            return multiplied(self._stored, x, gelu)[: len(x)]
        return None

    @property
    def _fits_tiles(self) -> bool:
        whole = self._groups * self._width == self.in_features and self.in_features % tiles.COLUMNS == 0
        return whole and len(self._codes) >= 2 and tiles.available()

    @property
    def _stored(self) -> Stored:
        return Stored(self.format, self._codes, self._scales, self._offsets, self._groups, self._width)

    def parts(self) -> list[Part] | None:
        if self._groups * self._width != self.in_features:
            return None
        shape = self._groups, self._width // self.format.unit, len(self._codes), self.out_features
        return [Part(product(self.format), *self._addresses, *shape)]

    @cached_property
    def _addresses(self) -> tuple[int, int, int]:
        return self._codes.ctypes.data, self._scales.ctypes.data, 0 if self._offsets is None else self._offsets.ctypes.data

    def _product(self, x: np.ndarray) -> np.ndarray:
        """The product without the bias of x [T, K] to [T, N padded to whole blocks]."""
        inputs, y = Quantized.of(self._segmented(x), self._groups), np.empty((len(x), len(self._codes) * LANES), np.float32)
        run = callable_at(product(self.format), ARGUMENTS)
        for first in range(0, len(x), MOST_ROWS):
            run(
                *self._addresses, *inputs.addresses(first), y[first:].ctypes.data, self._groups,
                self._width // self.format.unit, y.shape[1], 0, len(self._codes), min(MOST_ROWS, len(x) - first),
            )  # fmt: skip
        return y

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.arrays) + (0 if self.bias is None else self.bias.nbytes)

    def dense(self) -> torch.Tensor:
        return self._dense(torch.float32)

    def _dense(self, dtype: torch.dtype, passing: bool = False) -> torch.Tensor:
        """[out, in]: the matrix it multiplies by, as float32 or rounded to bfloat16. passing: until the next such call."""
        shape = self._groups, self._width
        values = unpacked(self.format, self._codes, self._scales, self._offsets, *shape, dtype, passing)
        if self._groups * self._width != self.in_features:
            values = values.view(len(values), self._uncut, -1)[:, :, : self.group_size].flatten(1)
        return values[: self.out_features, : self.in_features]


def _fits_half(values: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.array_equal(values.astype(np.float16).astype(np.float32), values))


def _by_lane(values: np.ndarray, half: bool) -> np.ndarray:
    """[N, groups] to [N/16, groups, 16], rows padded with zeros."""
    rows = -(-len(values) // LANES) * LANES
    padded = np.zeros((rows, values.shape[1]), np.float16 if half else np.float32)
    padded[: len(values)] = values
    return np.ascontiguousarray(padded.reshape(-1, LANES, values.shape[1]).transpose(0, 2, 1))
