"""What Numba lacks: calls through addresses, atomics, a clock, bfloat16 and float16."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

_i32, _i64, _f32 = ir.IntType(32), ir.IntType(64), ir.FloatType()
_NAP = 20  # microseconds between looks at a barrier where others are long in Python
BROKEN = 1 << 40  # what a barrier counts, or more, once a thread has failed and will not come


@intrinsic
def call(context: Any, address: Any, arguments: Any) -> Any:
    """Call the function at `address`, which returns nothing, with a tuple of integers."""
    count = len(arguments)

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_i64] * count)
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [builder.extract_value(args[1], i) for i in range(count)])
        return _context.get_dummy_value()

    return types.void(types.intp, types.UniTuple(types.intp, count)), emit


@intrinsic
def atomic_add(context: Any, address: Any, value: Any) -> Any:
    """Add to the int64 at `address`; returns its old value."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", builder.inttoptr(args[0], _i64.as_pointer()), args[1], "acq_rel")

    return types.int64(types.intp, types.int64), emit


@intrinsic
def atomic_load(context: Any, address: Any) -> Any:
    """The int64 at `address`, as other threads wrote it."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(args[0], _i64.as_pointer()), "acquire", 8)

    return types.int64(types.intp), emit


@intrinsic
def ticks(context: Any) -> Any:
    """The processor's cycle counter."""

    def emit(_context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        return builder.call(_function(builder, "llvm.readcyclecounter", _i64, []), [])

    return types.int64(), emit


@intrinsic
def give_way(context: Any) -> Any:
    """Let the operating system run another thread."""

    def emit(_context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        builder.call(_function(builder, "sched_yield", _i32, []), [])
        return _context.get_dummy_value()

    return types.void(), emit


@intrinsic
def nap(context: Any, microseconds: Any) -> Any:
    """Sleep for so long at least."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        builder.call(_function(builder, "usleep", _i32, [_i32]), [builder.trunc(args[0], _i32)])
        return _context.get_dummy_value()

    return types.void(types.int64), emit


@intrinsic
def bits_to_float(context: Any, bits: Any) -> Any:
    """The float32 with these 32 bits."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], _f32)

    return types.float32(types.uint32), emit


@intrinsic
def float_to_bits(context: Any, value: Any) -> Any:
    """The 32 bits of a float32."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], _i32)

    return types.uint32(types.float32), emit


@intrinsic
def half_bits(context: Any, value: Any) -> Any:
    """The 16 bits of the float16 nearest to a float32, of two as near the even one."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), ir.IntType(16))

    return types.uint16(types.float32), emit


@intrinsic
def array_at(context: Any, address: Any) -> Any:
    """A pointer for numba.carray."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.intp), emit


@njit(inline="always")
def floats(address, count):
    """The float32 array at `address`."""
    return carray(array_at(address), (count,), np.float32)


@njit(inline="always")
def matrix(address, rows, columns):
    """The float32 array [rows, columns] at `address`."""
    return carray(array_at(address), (rows, columns), np.float32)


def _function(builder: Any, name: str, result: Any, parameters: list[Any]) -> Any:
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, ir.FunctionType(result, parameters), name)


def widen(value):
    """A bfloat16, held in uint16, or a float32 as float32."""


@overload(widen)
def _widen(value):
    if value == types.uint16:
        return lambda value: bits_to_float(np.uint32(value) << np.uint32(16))
    return lambda value: value


def narrow(value, like):
    """A float32 as the type of `like`; bfloat16 rounds to nearest, ties to even."""


@overload(narrow)
def _narrow(value, like):
    if like == types.uint16:
        return lambda value, like: _rounded(value)
    return lambda value, like: value


@njit(inline="always")
def _rounded(value):
    bits = float_to_bits(np.float32(value))
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@njit
def barrier(address, epoch, threads):
    """Wait until all threads have come here; `epoch` counts the barriers of a pass from 1.

    Raises RuntimeError where it is BROKEN: what the threads have made together is not whole, and must not be read.
    """
    target, come, spins = epoch * threads, atomic_add(address, 1) + 1, 0
    while come < target:
        spins += 1
        if spins > 3000:
            nap(_NAP)
        elif spins > 500:
            give_way()
        come = atomic_load(address)
    if come >= BROKEN:
        raise RuntimeError("another thread of the pass has failed")
