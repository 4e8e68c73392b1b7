"""Functions of vectors of float32 that LLVM has no instruction for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llvmlite import ir

from core.compiled.emitter import F32, I16, I32, VI32, VOID, Emitter, Value, constant, number, vector
from core.compiled.numbers import UPPER

_TERMS = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_HALF = 2.0**-8  # of a bfloat16 number's last place, from 1 to 2: cutting off rounds to nearest where it was added
_POWERS = (7.7067240299e-02, 2.2764497750e-01, 6.9511663073e-01, 1.0 + _HALF)
_FLOOR = 9  # what to take away from a number: its floor, without exceptions
_EVERY = ir.Constant(I16, -1), ir.Constant(I32, 4)  # lanes, which round as it is set
_FLUSH = 0x8040  # of the register that says how to round: small results and operands are 0


def exp(e: Emitter, x: Value) -> Value:
    """e^x to 1e-7 relative, from −87 to 88; below that as at −87. x: float32, or a vector of it."""
    b, kind = e.b, x.type
    x = e.highest(x, constant(kind, -87.0))
    n = e.unary("floor", e.fma(x, constant(kind, 1.44269504), constant(kind, 0.5)))
    r = e.fma(n, constant(kind, 2.12194440e-4), e.fma(n, constant(kind, -0.693359375), x))
    p = constant(kind, _TERMS[0])
    for term in _TERMS[1:]:
        p = e.fma(p, r, constant(kind, term))
    p = b.fadd(e.fma(b.fmul(p, r), r, r), constant(kind, 1.0))
    whole = I32 if kind is F32 else vector(I32, kind.count)
    bits = b.shl(b.add(b.fptosi(n, whole), constant(whole, 127)), constant(whole, 23))
    return b.fmul(p, b.bitcast(bits, kind))


def exp2_bfloat(e: Emitter, x: Value) -> Value:
    """2^x rounded to the nearest number of bfloat16, as words [16] in whose upper halves it stands, from 9e-5 relative.

    For processors with AVX-512, and where numbers are `flushed`.
    """
    b, kind = e.b, x.type
    r = e.call("llvm.x86.avx512.mask.reduce.ps.512", kind, x, ir.Constant(I32, _FLOOR), x, *_EVERY)
    p = constant(kind, _POWERS[0])
    for term in _POWERS[1:]:
        p = e.fma(p, r, constant(kind, term))
    return b.and_(b.bitcast(scaled(e, p, x), VI32), constant(VI32, UPPER))


def scaled(e: Emitter, x: Value, power: Value) -> Value:
    """x · 2^⌊power⌋ of vectors of float32, for processors with AVX-512."""
    return e.call("llvm.x86.avx512.mask.scalef.ps.512", x.type, x, power, x, *_EVERY)


@contextmanager
def flushed(e: Emitter) -> Iterator[None]:
    """In between, numbers below 2^−126 are 0: to make one of them takes the processor a hundred times as long as any other."""
    place = e.stack(2 * 4, 4)
    saved, changed = (e.b.add(place, number(4 * i)) for i in range(2))
    e.call("llvm.x86.sse.stmxcsr", VOID, e.pointer(saved))
    e.store(e.b.or_(e.load(saved, I32, 4), ir.Constant(I32, _FLUSH)), changed)
    e.call("llvm.x86.sse.ldmxcsr", VOID, e.pointer(changed))
    yield
    e.call("llvm.x86.sse.ldmxcsr", VOID, e.pointer(saved))


def logistic(e: Emitter, x: Value) -> Value:
    """1 / (1 + e^−x)."""
    one = constant(x.type, 1.0)
    return e.b.fdiv(one, e.b.fadd(one, exp(e, e.b.fneg(e.highest(x, constant(x.type, -80.0))))))


def gated(e: Emitter, gate: Value, up: Value, gelu: bool) -> Value:
    """act(gate) · up, where act is SiLU, or GELU in its tanh form: x · σ(2·0.79788456·(x + 0.044715 x³))."""
    steep = gate
    if gelu:
        cube = e.b.fmul(e.b.fmul(gate, gate), gate)
        steep = e.b.fmul(constant(gate.type, 1.5957691216), e.fma(constant(gate.type, 0.044715), cube, gate))
    return e.b.fmul(e.b.fmul(gate, logistic(e, steep)), up)


def tanh(e: Emitter, x: Value) -> Value:
    """2 / (1 + e^−2x) − 1."""
    two = constant(x.type, 2.0)
    return e.b.fsub(e.b.fmul(two, logistic(e, e.b.fmul(two, x))), constant(x.type, 1.0))
