"""Keys out of latents, a run of slots at a time, for the compiled step: a product, and what a key goes through after it.

Latents are padded to whole tiles. Where there are no tiles for the cache's numbers, the product is the weighted sum that
attention has for values, of the rows of the transposed matrix.
"""

from __future__ import annotations

from functools import cache
from math import gcd
from typing import Any

import torch
from torch import Tensor

from core.compiled.emitter import F32, I16, I32, LANES, Emitter, Value, constant, lanes_of, number, vector
from core.compiled.jit import register_lanes
from core.compiled.numbers import read, write
from core.compiled.tiles import COLUMNS, LINE, SIDE, TILE, Factor, Tiles

RUN = SIDE  # slots
_AHEAD = 4096  # bytes


def padded(rank: int) -> int:
    """Numbers of a latent with those that fill it up."""
    return -(-rank // COLUMNS) * COLUMNS


@cache
def gather_kernel(sizes: tuple[int, int], stored: torch.dtype, dtype: torch.dtype) -> int:
    """The address of compiled code that puts both parts of latents side by side, and zeros after them.

    Called with addresses: of the first part [count, sizes[0]] and of the second, as numbers of `stored`, and of where they go
    [count, width], as numbers of `dtype`; and their count.
    """
    names = "_".join(map(str, (*sizes, stored.itemsize, dtype.itemsize)))
    e = Emitter(f"gather_latents_{names}", "first second target count")

    def latent(row: Value, _: list[Value]) -> list[Value]:
        target = e.at(e.target, row, padded(sum(sizes)) * dtype.itemsize)
        for base, size, place in ((e.first, sizes[0], 0), (e.second, sizes[1], sizes[0])):
            source = e.at(base, row, size * stored.itemsize)
            _copy(e, source, e.at(target, place, dtype.itemsize), size, stored, dtype)
        for place in range(sum(sizes), padded(sum(sizes))):
            e.store(constant(_bits(dtype), 0), e.at(target, place, dtype.itemsize), dtype.itemsize)
        return []

    e.loop(number(0), e.count, [], latent)
    return e.finish()


def _copy(e: Emitter, source: Value, target: Value, size: int, stored: torch.dtype, dtype: torch.dtype) -> None:
    """A part of a latent, which the step comes to long before memory would have it."""
    lanes = gcd(size, LINE // dtype.itemsize)
    for line in range(0, size * stored.itemsize, LINE):
        e.prefetch(e.b.add(source, number(line + _AHEAD)))
    for column in range(0, size, lanes):
        at = e.at(source, column, stored.itemsize)
        value = e.load(at, vector(_bits(stored), lanes), stored.itemsize) if stored == dtype else read(e, at, stored, lanes)
        e.store(value, e.at(target, column, dtype.itemsize), dtype.itemsize)


def _bits(dtype: torch.dtype) -> Any:
    return I16 if dtype == torch.bfloat16 else I32


@cache
def tiled_products(size: int, width: int) -> int:
    """The address of the compiled products of a run of latents with a matrix.

    Called with addresses: of latents bfloat16 [RUN, width], of what `as_tiles` made of a matrix [D, width], and of the products
    float32 [RUN, D].
    """
    e = Emitter(f"latent_products_{size}_{width}", "latents matrix products")
    tiles, row = Tiles(e), number(2 * width)
    left = Factor(e.latents, number(LANES * 2 * width), row, number(LINE))
    for first in range(0, size, SIDE):
        at = e.b.add(e.matrix, number(2 * first * width))
        tiles.clear()
        tiles.add(number(width // COLUMNS), left, Factor(at, number(TILE), number(LINE), number(2 * TILE)))
        tiles.store(e.b.add(e.products, number(4 * first)), number(4 * size))
    return e.finish()


def as_tiles(matrices: Tensor) -> Tensor:
    """Matrices bfloat16 [G, D, width] as right factors: squares of two tiles side by side, along the width and then along D."""
    G, D, width = matrices.shape
    parts = matrices.view(G, D // SIDE, 2, LANES, width // COLUMNS, COLUMNS // 2, 2)
    return parts.permute(0, 1, 4, 2, 5, 3, 6).contiguous()


@cache
def turn_kernel(size: int, half: int, normed: bool, dtype: torch.dtype) -> int:
    """The address of compiled code that makes keys of products: the mean is added, and they are normed and rotated.

    Called with: addresses of products float32 [count, D], of the mean float32 [D] and of the norm's weights, the bits of its
    eps, addresses of cosines and sines float32 [count, half] and of the keys [count, D], and their count.
    """
    e = Emitter(f"turn_{size}_{half}_{normed:d}_{dtype.itemsize}", "products mean norm eps_bits cos sin keys count")

    def key(slot: Value, _: list[Value]) -> list[Value]:
        numbers = _centred(e, e.at(e.products, slot, 4 * size), size, half)
        numbers = _normed(e, numbers, size) if normed else numbers
        target = e.at(e.keys, slot, size * dtype.itemsize)
        for column, value in _rotated(e, numbers, slot, half).items():
            write(e, value, e.at(target, column, dtype.itemsize), dtype)
        return []

    e.loop(number(0), e.count, [], key)
    return e.finish()


def _centred(e: Emitter, row: Value, size: int, half: int) -> dict[int, Value]:
    """The numbers of a key by their columns, in vectors that cross neither the middle of what is rotated nor its end."""
    turned, others = gcd(half, register_lanes()), gcd(size - 2 * half, register_lanes())
    lanes = dict.fromkeys(range(0, 2 * half, turned), turned) | dict.fromkeys(range(2 * half, size, others), others)
    return {column: e.b.fadd(*(_load(e, at, column, count) for at in (row, e.mean))) for column, count in lanes.items()}


def _load(e: Emitter, base: Value, column: int, lanes: int) -> Value:
    return read(e, e.at(base, column, 4), torch.float32, lanes)


def _normed(e: Emitter, numbers: dict[int, Value], size: int) -> dict[int, Value]:
    """x / rms(x) · weight."""
    total = constant(F32, 0.0)
    for x in numbers.values():
        squares = e.b.fmul(x, x)
        total = e.b.fadd(total, e.joined(squares, e.b.fadd) if lanes_of(x) > 1 else squares)
    mean = e.b.fadd(e.b.fmul(total, constant(F32, 1 / size)), e.float_argument(e.eps_bits))
    factor = e.b.fdiv(constant(F32, 1.0), e.unary("sqrt", mean))
    return {
        column: e.b.fmul(e.b.fmul(x, _spread(e, factor, x)), _load(e, e.norm, column, lanes_of(x)))
        for column, x in numbers.items()
    }


def _spread(e: Emitter, scalar: Value, like: Value) -> Value:
    return scalar if lanes_of(like) == 1 else e.spread(scalar, lanes_of(like))


def _rotated(e: Emitter, numbers: dict[int, Value], slot: Value, half: int) -> dict[int, Value]:
    """Halves paired."""
    b, rotated = e.b, dict(numbers)
    cosines, sines = (e.at(base, slot, 4 * half) for base in (e.cos, e.sin))
    for column in (column for column in numbers if column < half):
        x, y = numbers[column], numbers[column + half]
        cos, sin = (_load(e, base, column, lanes_of(x)) for base in (cosines, sines))
        rotated[column] = b.fsub(b.fmul(x, cos), b.fmul(y, sin))
        rotated[column + half] = b.fadd(b.fmul(y, cos), b.fmul(x, sin))
    return rotated
