"""Functions of vectors of float32 that LLVM has no instruction for."""

from __future__ import annotations

from core.compiled.emitter import F32, I32, Emitter, Value, constant, vector

_TERMS = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_POWERS = (9.6567102885e-03, 5.5838282946e-02, 2.4022530097e-01, 6.9313673388e-01, 1.0)
_ROUNDS = 12582912.0  # 1.5 · 2²³


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


def exp2(e: Emitter, x: Value) -> Value:
    """2^x to 7e-6 relative, from −126 to 127; below that as at −126. x: a vector of float32."""
    b, kind, wide = e.b, x.type, vector(I32, x.type.count)
    x = e.highest(x, constant(kind, -126.0))
    shifted = b.fadd(x, constant(kind, _ROUNDS))  # the nearest integer stands in its lowest bits
    r = b.fsub(x, b.fsub(shifted, constant(kind, _ROUNDS)))
    p = constant(kind, _POWERS[0])
    for term in _POWERS[1:]:
        p = e.fma(p, r, constant(kind, term))
    power = b.shl(b.bitcast(shifted, wide), constant(wide, 23))
    return b.bitcast(b.add(b.bitcast(p, wide), power), kind)


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
