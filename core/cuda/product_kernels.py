"""Triton kernels: products with packed codes (core/cuda/groups.py) and with plain matrices.

A code q of 4 bits becomes a 16-bit float without a conversion: put into the top bits of the mantissa of 1 it is 1 + q / 16,
exactly. A word yields two neighbours in one register, as tensor cores take them. Codes of 8 bits are two of 4.

Steps of up to ROWS rows divide the columns among the warps of a program (PARTS), since a matrix has too few rows to keep a GPU
busy by them alone. All are computed as matrix times x transposed, with x padded to ROWS rows, so a row goes through the same
operations whatever rows are beside it. Loops have bounds known when they are compiled.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _nibbles(words, place, KIND: tl.constexpr):
    """1 + q / 16 for the 4-bit codes q at `place` of both halves of words [..., U], as KIND [..., 2U]; float32 by float16."""
    HALF: tl.constexpr = tl.bfloat16 if tl.bfloat16 == KIND else tl.float16
    TOP: tl.constexpr = 3 if tl.bfloat16 == KIND else 6  # bits of the mantissa under the code
    ONE: tl.constexpr = 0x3F803F80 if tl.bfloat16 == KIND else 0x3C003C00
    moved = words << (TOP - 4 * place) if 4 * place < TOP else words >> (4 * place - TOP)
    bits = (moved & (0x000F000F << TOP)) | ONE
    low = bits.to(tl.int16).to(HALF, bitcast=True)
    high = (bits >> 16).to(tl.int16).to(HALF, bitcast=True)
    return tl.interleave(low, high).to(KIND)


@triton.jit
def _line(scales, offsets, lies, inside, BITS: tl.constexpr, ZERO: tl.constexpr, HAS_OFFSETS: tl.constexpr):
    """slope and level by which 1 + q / 16 (or 17 + q / 16, the two halves of 8 bits) becomes a value: slope · it + level."""
    scale = tl.load(scales + lies, mask=inside, other=0.0).to(tl.float32)
    level = tl.load(offsets + lies, mask=inside, other=0.0).to(tl.float32) if HAS_OFFSETS else -ZERO * scale
    return 16 * scale, level - (16 if BITS == 4 else 272) * scale


@triton.jit
def _values(words, place, slope, level, BITS: tl.constexpr, KIND: tl.constexpr):
    """The values at `place` of words [rows, U], float32 [rows, 2U]."""
    if BITS == 4:
        codes = _nibbles(words, place, KIND).to(tl.float32)
    else:
        codes = _nibbles(words, 2 * place, KIND).to(tl.float32) + 16 * _nibbles(words, 2 * place + 1, KIND).to(tl.float32)
    return codes * slope[:, None] + level[:, None]


@triton.jit(do_not_specialize=["R"])  # one row goes through the code of several
def few_packed(
    x, words, scales, offsets, bias, y, N, R, K: tl.constexpr, CHUNKS: tl.constexpr, GROUP: tl.constexpr, GROUPS: tl.constexpr,
    BITS: tl.constexpr, ZERO: tl.constexpr, UNIT: tl.constexpr, RUN: tl.constexpr, HAS_OFFSETS: tl.constexpr,
    HAS_BIAS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, PARTS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """y [R, N] = x [R, K] times the matrix, R ≤ ROWS; BLOCK of its rows a program.

    Codes are multiplied as they are, and each group's sum is then scaled, in float32. RUN: places in a row of a chunk that
    surely share a group.
    """
    PER: tl.constexpr = 16 // BITS
    STEPS: tl.constexpr = (CHUNKS + PARTS - 1) // PARTS
    KIND: tl.constexpr = x.dtype.element_ty
    n, r = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, ROWS)
    part, i, j = tl.arange(0, PARTS), tl.arange(0, UNIT), tl.arange(0, 2 * UNIT)
    inside, there = n < N, (r < R)[None, None, :]
    total = tl.zeros((PARTS, BLOCK, ROWS), tl.float32)
    ones = tl.full((PARTS, BLOCK, 2 * UNIT), 1.0, tl.float32).to(KIND)
    for step in tl.range(0, STEPS, num_stages=STAGES):
        chunk = part * STEPS + step
        held = inside[None, :, None] & (chunk < CHUNKS)[:, None, None]
        lies = n[None, :, None] * (CHUNKS * UNIT) + chunk[:, None, None] * UNIT + i[None, None, :]
        w = tl.load(words + lies, mask=held, other=0)
        for run in tl.static_range(PER // RUN):
            group = tl.minimum((chunk * PER + run * RUN) * (2 * UNIT) // GROUP, GROUPS - 1)
            slope, level = _line(scales, offsets, group[:, None] * N + n[None, :], inside[None, :], BITS, ZERO, HAS_OFFSETS)
            dots = tl.zeros((PARTS, BLOCK, ROWS), tl.float32)
            high = tl.zeros((PARTS, BLOCK, ROWS), tl.float32)  # of the upper halves of codes of 8 bits
            sums = tl.zeros((PARTS, BLOCK, ROWS), tl.float32)  # of x: every row of it is the same
            for place in tl.static_range(run * RUN, run * RUN + RUN):
                k = ((chunk * PER + place) * (2 * UNIT))[:, None, None] + j[None, :, None]
                its = tl.load(x + r[None, None, :] * K + k, mask=there & (k < K), other=0.0)
                if BITS == 4:
                    dots = tl.dot(_nibbles(w, place, KIND), its, dots)
                else:
                    dots = tl.dot(_nibbles(w, 2 * place, KIND), its, dots)
                    high = tl.dot(_nibbles(w, 2 * place + 1, KIND), its, high)
                sums = tl.dot(ones, its, sums)
            total += (dots + 16 * high) * slope[:, :, None] + sums * level[:, :, None]
    result = tl.sum(total, axis=0)
    if HAS_BIAS:
        result += tl.load(bias + n, mask=inside, other=0.0)[:, None]
    tl.store(y + r[None, :] * N + n[:, None], result.to(y.dtype.element_ty), mask=inside[:, None] & (r < R)[None, :])


@triton.jit(do_not_specialize=["R"])  # one row goes through the code of several
def few_dense(
    x, weight, bias, y, N, R, K: tl.constexpr, HAS_BIAS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
    COLUMNS: tl.constexpr, PARTS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """y [R, N] = x [R, K] times weight [N, K], R ≤ ROWS; BLOCK of its rows a program, COLUMNS at a time."""
    STEPS: tl.constexpr = (K + PARTS * COLUMNS - 1) // (PARTS * COLUMNS)
    n, r = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, ROWS)
    part, i = tl.arange(0, PARTS), tl.arange(0, COLUMNS)
    inside = n < N
    total = tl.zeros((PARTS, BLOCK, ROWS), tl.float32)
    for step in tl.range(0, STEPS, num_stages=STAGES):
        first = (part * STEPS + step) * COLUMNS
        k = first[:, None, None] + i[None, None, :]
        lies = n[None, :, None].to(tl.int64) * K + k
        value = tl.load(weight + lies, mask=inside[None, :, None] & (k < K), other=0.0)
        k = first[:, None, None] + i[None, :, None]
        its = tl.load(x + r[None, None, :] * K + k, mask=(r < R)[None, None, :] & (k < K), other=0.0)
        total = tl.dot(value, its, total, input_precision="ieee")
    result = tl.sum(total, axis=0)
    if HAS_BIAS:
        result += tl.load(bias + n, mask=inside, other=0.0).to(tl.float32)[:, None]
    tl.store(y + r[None, :] * N + n[:, None], result.to(y.dtype.element_ty), mask=inside[:, None] & (r < R)[None, :])


@triton.jit
def many_packed(
    x, words, scales, offsets, bias, y, N, R, K: tl.constexpr, CHUNKS: tl.constexpr, GROUP: tl.constexpr, GROUPS: tl.constexpr,
    BITS: tl.constexpr, ZERO: tl.constexpr, UNIT: tl.constexpr, RUN: tl.constexpr, HAS_OFFSETS: tl.constexpr,
    HAS_BIAS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """y [R, N] = x [R, K] times the matrix, values rounded to the format of x; BLOCK by ROWS of y a program."""
    PER: tl.constexpr = 16 // BITS
    KIND: tl.constexpr = x.dtype.element_ty
    n, r = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    i, j = tl.arange(0, UNIT), tl.arange(0, 2 * UNIT)
    inside, there = n < N, r < R
    total = tl.zeros((BLOCK, ROWS), tl.float32)
    for chunk in tl.range(0, CHUNKS, num_stages=STAGES):
        w = tl.load(words + n[:, None] * (CHUNKS * UNIT) + chunk * UNIT + i[None, :], mask=inside[:, None], other=0)
        for run in tl.static_range(PER // RUN):
            group = tl.minimum((chunk * PER + run * RUN) * (2 * UNIT) // GROUP, GROUPS - 1)
            slope, level = _line(scales, offsets, group * N + n, inside, BITS, ZERO, HAS_OFFSETS)
            for place in tl.static_range(run * RUN, run * RUN + RUN):
                k = (chunk * PER + place) * (2 * UNIT) + j
                its = tl.load(x + r[None, :] * K + k[:, None], mask=there[None, :] & (k < K)[:, None], other=0.0)
                value = _values(w, place, slope, level, BITS, KIND)
                total = tl.dot(value.to(KIND), its, total)
    if HAS_BIAS:
        total += tl.load(bias + n, mask=inside, other=0.0)[:, None]
    tl.store(y + r[None, :] * N + n[:, None], total.to(y.dtype.element_ty), mask=inside[:, None] & there[None, :])


@triton.jit
def unpack(
    words, scales, offsets, out, N, K: tl.constexpr, CHUNKS: tl.constexpr, GROUP: tl.constexpr, GROUPS: tl.constexpr,
    BITS: tl.constexpr, ZERO: tl.constexpr, UNIT: tl.constexpr, RUN: tl.constexpr, HAS_OFFSETS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """out [N, K] is the matrix, in the format of `out`; BLOCK rows of a chunk a program."""
    PER: tl.constexpr = 16 // BITS
    KIND: tl.constexpr = out.dtype.element_ty
    n, chunk = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.program_id(1)
    i, j, inside = tl.arange(0, UNIT), tl.arange(0, 2 * UNIT), n < N
    w = tl.load(words + n[:, None] * (CHUNKS * UNIT) + chunk * UNIT + i[None, :], mask=inside[:, None], other=0)
    for run in tl.static_range(PER // RUN):
        group = tl.minimum((chunk * PER + run * RUN) * (2 * UNIT) // GROUP, GROUPS - 1)
        slope, level = _line(scales, offsets, group * N + n, inside, BITS, ZERO, HAS_OFFSETS)
        for place in tl.static_range(run * RUN, run * RUN + RUN):
            k = (chunk * PER + place) * (2 * UNIT) + j
            value = _values(w, place, slope, level, BITS, KIND)
            lies = n[:, None].to(tl.int64) * K + k[None, :]
            tl.store(out + lies, value.to(KIND), mask=inside[:, None] & (k < K)[None, :])
