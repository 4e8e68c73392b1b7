"""The codes, scales and offsets inside GGUF's quantized blocks. Layouts: ggml-common.h of ggml, as data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from core.weights.packed import Codes

Array = np.ndarray


def codes_of(kind: str, blocks: Array) -> Codes:
    """The matrix stored in `blocks` uint8 [N, bytes a row] of GGUF type `kind`; values are unchanged."""
    size, bits, group, read = _KINDS[kind]
    n = len(blocks)
    codes, scales, offsets = read(np.ascontiguousarray(blocks).reshape(-1, size))
    offsets = None if offsets is None else offsets.reshape(n, -1)
    return Codes(codes.reshape(n, -1), scales.reshape(n, -1), offsets, bits, group)


def _half(blocks: Array, start: int) -> Array:
    """A float16 field of every block, as float32 [blocks, 1]."""
    return np.ascontiguousarray(blocks[:, start : start + 2]).view(np.float16).astype(np.float32)


def _nibbles(data: Array) -> Array:
    """Low nibbles of all bytes, then high ones, along the last axis."""
    return np.concatenate((data & 15, data >> 4), axis=-1)


def _fifth_bits(data: Array) -> Array:
    """32 bits stored in four bytes, as 0 or 16."""
    return np.unpackbits(data, axis=-1, bitorder="little") << 4


def _q4_0(b: Array) -> tuple[Array, Array, None]:
    return _nibbles(b[:, 2:]), _half(b, 0), None


def _q4_1(b: Array) -> tuple[Array, Array, Array]:
    return _nibbles(b[:, 4:]), _half(b, 0), _half(b, 2)


def _q5_0(b: Array) -> tuple[Array, Array, None]:
    return _nibbles(b[:, 6:]) | _fifth_bits(b[:, 2:6]), _half(b, 0), None


def _q5_1(b: Array) -> tuple[Array, Array, Array]:
    return _nibbles(b[:, 8:]) | _fifth_bits(b[:, 4:8]), _half(b, 0), _half(b, 2)


def _q8_0(b: Array) -> tuple[Array, Array, None]:
    return b[:, 2:] ^ 128, _half(b, 0), None  # int8 plus 128


def _scales_and_minima(b: Array) -> tuple[Array, Array]:
    """The eight 6-bit scales and minima of a K-quant super-block, times their float16 factors."""
    low, middle, high = b[:, 4:8], b[:, 8:12], b[:, 12:16]
    scale = np.concatenate((low & 63, (high & 15) | ((low >> 6) << 4)), axis=1)
    minimum = np.concatenate((middle & 63, (high >> 4) | ((middle >> 6) << 4)), axis=1)
    return scale * _half(b, 0), -(minimum * _half(b, 2))


def _q4_k(b: Array) -> tuple[Array, Array, Array]:
    codes = _nibbles(b[:, 16:].reshape(-1, 4, 32))  # 4 × (32 low, 32 high)
    return (codes.reshape(len(b), -1), *_scales_and_minima(b))


def _q5_k(b: Array) -> tuple[Array, Array, Array]:
    codes = _nibbles(b[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    high = np.unpackbits(b[:, 16:48, None], axis=2, bitorder="little").transpose(0, 2, 1)  # bit g of byte i → group g
    return ((codes | (high << 4)).reshape(len(b), -1), *_scales_and_minima(b))


def _q6_k(b: Array) -> tuple[Array, Array, None]:
    low = b[:, :128].reshape(-1, 2, 2, 32)
    low = np.concatenate((low & 15, low >> 4), axis=2)  # [blocks, half, 4, 32]
    high = b[:, 128:192].reshape(-1, 2, 1, 32)
    high = (high >> np.arange(0, 8, 2, dtype=np.uint8)[:, None]) & 3
    scales = b[:, 192:208].view(np.int8).astype(np.float32) * _half(b, 208)
    return (low | (high << 4)).reshape(len(b), -1), scales, None


# kind: bytes a block, bits a code, columns that share a scale, reader
_KINDS: dict[str, tuple[int, int, int, Callable[[Array], tuple[Array, Array, Array | None]]]] = {
    "Q4_0": (18, 4, 32, _q4_0),
    "Q4_1": (20, 4, 32, _q4_1),
    "Q5_0": (22, 5, 32, _q5_0),
    "Q5_1": (24, 5, 32, _q5_1),
    "Q8_0": (34, 8, 32, _q8_0),
    "Q4_K": (144, 4, 32, _q4_k),
    "Q5_K": (176, 5, 32, _q5_k),
    "Q6_K": (210, 6, 16, _q6_k),
}
QUANTIZED = frozenset(_KINDS)
