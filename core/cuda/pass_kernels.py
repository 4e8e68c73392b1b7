"""Triton kernels: what stands between the products of a pass. Notation: core/cuda/__init__.py."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _scaled(x, weight, c, inside, eps, C: tl.constexpr):
    """x / rms(x) · weight over columns c."""
    return x * tl.rsqrt(tl.sum(x * x, axis=0) / C + eps) * tl.load(weight + c, mask=inside, other=0.0)


@triton.jit
def join(
    x, y, after, before, out, scale, eps, C: tl.constexpr, HAS_Y: tl.constexpr, HAS_AFTER: tl.constexpr,
    HAS_BEFORE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """x += after(y) · scale; out = before(x). One row a program."""
    row, c = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    inside = c < C
    kept = tl.load(x + row * C + c, mask=inside, other=0.0)
    if HAS_Y:
        new = tl.load(y + row * C + c, mask=inside, other=0.0).to(tl.float32)
        if HAS_AFTER:
            new = _scaled(new, after, c, inside, eps, C)
        kept += new * scale
        tl.store(x + row * C + c, kept, mask=inside)
    if HAS_BEFORE:
        kept = _scaled(kept, before, c, inside, eps, C)
    tl.store(out + row * C + c, kept.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _turned(head, cos, sin, position, d, D: tl.constexpr, HALF: tl.constexpr):
    """One head of D numbers rotated to `position`; HALF pairs of them, 0 for none."""
    value = tl.load(head + d, mask=d < D, other=0.0).to(tl.float32)
    if HALF > 0:
        pair, turns = tl.where(d < HALF, d, d - HALF), d < 2 * HALF
        other = tl.load(head + tl.where(d < HALF, d + HALF, d - HALF), mask=turns, other=0.0).to(tl.float32)
        c = tl.load(cos + position * HALF + pair, mask=turns, other=1.0)
        s = tl.load(sin + position * HALF + pair, mask=turns, other=0.0)
        value = tl.where(d < HALF, value * c - other * s, value * c + other * s)
    return value


@triton.jit
def keep(
    q, k, v, cos, sin, positions, turned, keys, values, q_batch, q_row, k_batch, k_row, v_batch, v_row, batch_step, head_step,
    slot_step, T, H: tl.constexpr, G: tl.constexpr, D: tl.constexpr, HALF: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """q [B, T, H, D] to `turned`; k and v [B, T, G, D] to slots `positions` of keys and values [B, G, capacity, D].

    These lie in steps of so many numbers. One head of one row a program; heads of a row lie one behind the other.
    """
    row, head, d = tl.program_id(0), tl.program_id(1), tl.arange(0, BLOCK)
    batch, token, inside = row // T, row % T, d < D
    position = tl.load(positions + token)
    slot = batch.to(tl.int64) * batch_step + position * slot_step
    if head < H:
        value = _turned(q + batch * q_batch + token * q_row + head * D, cos, sin, position, d, D, HALF)
        tl.store(turned + (row * H + head) * D + d, value.to(turned.dtype.element_ty), mask=inside)
    elif head < H + G:
        value = _turned(k + batch * k_batch + token * k_row + (head - H) * D, cos, sin, position, d, D, HALF)
        tl.store(keys + slot + (head - H).to(tl.int64) * head_step + d, value.to(keys.dtype.element_ty), mask=inside)
    else:
        value = _turned(v + batch * v_batch + token * v_row + (head - H - G) * D, cos, sin, position, d, D, 0)
        tl.store(values + slot + (head - H - G).to(tl.int64) * head_step + d, value.to(values.dtype.element_ty), mask=inside)


@triton.jit
def gate(gate_up, out, F, SILU: tl.constexpr, BLOCK: tl.constexpr):
    """out [R, F] = activation(gate) · up of gate_up [R, 2F]; BLOCK columns of a row a program."""
    row, f = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = f < F
    x = tl.load(gate_up + row * 2 * F + f, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * F + F + f, mask=inside, other=0.0).to(tl.float32)
    # gelu's tanh is a sigmoid of twice its argument: 2 √(2/π).
    turn = x if SILU else 1.5957691216057308 * (x + 0.044715 * x * x * x)
    tl.store(out + row * F + f, (x * tl.sigmoid(turn) * up).to(out.dtype.element_ty), mask=inside)
