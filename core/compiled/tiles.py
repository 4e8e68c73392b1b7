"""The processor's matrix tiles (AMX): sixteen rows of 64 bytes, multiplied in bfloat16 and summed in float32.

A tile of the second factor holds two of its rows in the halves of the words of one, so words [K/2, N] stand for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from llvmlite import ir

from core.compiled.emitter import I8, I16, LANES, VI32, VOID, Emitter, Value, number, vector
from core.compiled.room import Room

SIDE = 2 * LANES  # rows, and columns, of a square of sums: two tiles each way
COLUMNS = 32  # bfloat16 numbers of a tile's row
TILE = 1024  # bytes
LINE = 64  # bytes of a tile's row
_LEFT, _RIGHT = 4, 6  # of eight tiles: after four of sums, two of each factor
_room = Room()


@cache
def available() -> bool:
    """Whether this process may use tiles; asks the system for them."""
    return torch.cpu._is_amx_tile_supported() and torch.cpu._init_amx()


@cache
def configuration() -> np.ndarray:
    """Of eight whole tiles, for `Tiles.configure`."""
    config = np.zeros(LINE, np.uint8)
    config[0] = 1
    config[16:32].view(np.uint16)[:] = LINE
    config[48:56] = LANES
    return config


def room(nbytes: int) -> int:
    """The address of room of this thread, at the beginning of a line; the next call may give the same."""
    return _room.bytes(nbytes).ctypes.data


@dataclass(frozen=True)
class Factor:
    """Where two neighbouring tiles of a factor are, which advance along the columns that are summed over.

    Address of the first tile; bytes from it to its neighbour, from a row to the next, and to the tiles that follow.
    """

    address: Value
    neighbour: Value
    row: Value
    step: Value


class Tiles:
    """Tiles in a function under construction. It must configure them before, and release them after."""

    def __init__(self, e: Emitter) -> None:
        self.e = e

    def configure(self, address: Value) -> None:
        self.e.call("llvm.x86.ldtilecfg", VOID, self.e.pointer(address))

    def release(self) -> None:
        self.e.call("llvm.x86.tilerelease", VOID)

    def clear(self) -> None:
        """The square of sums becomes 0."""
        for tile in range(4):
            self.zero(tile)

    def load(self, address: Value, row: Value) -> None:
        """The square of sums from float32 numbers; row: bytes from one to the next."""
        self._square(self.take, address, row)

    def store(self, address: Value, row: Value) -> None:
        self._square(self.put, address, row)

    def add(self, count: Value, left: Factor, right: Factor) -> None:
        """Add the products of `count` tiles of each factor, and their neighbours, to the square."""
        self.e.loop(number(0), count, [left.address, right.address], lambda _, at: self._add(left, right, *at))

    def _add(self, left: Factor, right: Factor, a: Value, b: Value) -> list[Value]:
        add = self.e.b.add
        for half, address in enumerate((b, add(b, right.neighbour))):
            self.take(_RIGHT + half, address, right.row)
        for half, address in enumerate((a, add(a, left.neighbour))):
            self.take(_LEFT + half, address, left.row)
            for other in range(2):
                self.multiply(2 * half + other, _LEFT + half, _RIGHT + other)
        return [add(a, left.step), add(b, right.step)]

    def ask(self, address: Value, nbytes: int) -> None:
        """For memory that is needed soon."""
        for line in range(0, nbytes, LINE):
            self.e.prefetch(self.e.b.add(address, number(line)))

    def zero(self, tile: int) -> None:
        self._do("tilezero", tile)

    def take(self, tile: int, address: Value, row: Value) -> None:
        """Sixteen rows of 64 bytes; row: bytes from one to the next."""
        self._do("tileloadd64", tile, self.e.pointer(address), row)

    def put(self, tile: int, address: Value, row: Value) -> None:
        self._do("tilestored64", tile, self.e.pointer(address), row)

    def multiply(self, sums: int, left: int, right: int) -> None:
        """Add the products of two tiles to a third."""
        self._do("tdpbf16ps", sums, I8(left), I8(right))

    def _square(self, move: Callable[[int, Value, Value], None], address: Value, row: Value) -> None:
        for half in range(2):
            for other in range(2):
                at = self.e.b.add(address, self.e.b.add(self.e.b.mul(row, number(LANES * half)), number(LINE * other)))
                move(2 * half + other, at, row)

    def _do(self, what: str, tile: int, *operands: Value) -> None:
        self.e.call(f"llvm.x86.{what}", VOID, I8(tile), *operands)


class _Bfloat(ir.Type):  # type: ignore[misc]
    """Bfloat16, which llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bfloat)

    def __hash__(self) -> int:
        return hash(_Bfloat)


def narrowed(e: Emitter, first: Value, second: Value) -> Value:
    """Sixteen and sixteen float32 numbers as 32 of bfloat16 [32] int16, rounded to nearest, ties to even."""
    kind = vector(_Bfloat(), 2 * LANES)
    return e.b.bitcast(e.call("llvm.x86.avx512bf16.cvtne2ps2bf16.512", kind, second, first), vector(I16, 2 * LANES))


def paired(e: Emitter, low: Value, high: Value) -> Value:
    """Sixteen words that hold `low` in bfloat16 in their lower halves, and `high` in their upper ones."""
    numbers = narrowed(e, low, high)
    return e.b.bitcast(e.picked(numbers, numbers, (lane // 2 + lane % 2 * LANES for lane in range(2 * LANES))), VI32)


def transposed(e: Emitter, rows: list[Value]) -> list[Value]:
    """Sixteen vectors of sixteen words, columns for rows: squares of twice the side swap two of their quarters."""
    rows = list(rows)
    for side in (1, 2, 4, 8):
        for i in (i for i in range(LANES) if not i & side):
            upper, lower = rows[i], rows[i + side]
            rows[i] = e.picked(upper, lower, [lane + (LANES - side if lane & side else 0) for lane in range(LANES)])
            rows[i + side] = e.picked(upper, lower, [lane + (LANES if lane & side else side) for lane in range(LANES)])
    return rows
