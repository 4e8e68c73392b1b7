"""Triton kernels: products with packed codes (core/cuda/groups.py) and with plain matrices.

A code of 4 bits becomes a 16-bit float without a conversion: put into the lowest bits of the mantissa of 1024 (128 in
bfloat16), of which 1024 is taken away again. A word yields two neighbours in one register, as tensor cores take them.

Steps of up to ROWS rows divide the columns among the warps of a program (PARTS), since a matrix has too few rows to keep a GPU
busy by them alone. All are computed as matrix times x transposed, with x padded to ROWS rows, so a row goes through the same
operations whatever rows are beside it. Loops have bounds known when they are compiled.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _nibbles(words, place, KIND: tl.constexpr):
    """The 4-bit codes at `place` of both halves of words [..., U], as KIND [..., 2U]."""
    MAGIC: tl.constexpr = 0x43004300 if KIND == tl.bfloat16 else 0x64006400
    BASE: tl.constexpr = 128.0 if KIND == tl.bfloat16 else 1024.0
    bits = ((words >> (4 * place)) & 0x000F000F) | MAGIC
    low = bits.to(tl.int16).to(KIND, bitcast=True)
    high = (bits >> 16).to(tl.int16).to(KIND, bitcast=True)
    return tl.interleave(low, high) - BASE


@triton.jit
def _codes(words, place, BITS: tl.constexpr, KIND: tl.constexpr):
    """The codes at `place` of words, exact in a 16-bit KIND, which float32 is read through."""
    HALF: tl.constexpr = tl.bfloat16 if KIND == tl.bfloat16 else tl.float16
    if BITS == 4:
        codes = _nibbles(words, place, HALF)
    else:
        codes = _nibbles(words, 2 * place, HALF) + _nibbles(words, 2 * place + 1, HALF) * 16.0
    return codes.to(KIND)


@triton.jit
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
    ones = tl.full((PARTS, BLOCK, 2 * UNIT), 1.0, KIND)
    for step in tl.range(0, STEPS, num_stages=STAGES):
        chunk = part * STEPS + step
        held = inside[None, :, None] & (chunk < CHUNKS)[:, None, None]
        lies = n[None, :, None] * (CHUNKS * UNIT) + chunk[:, None, None] * UNIT + i[None, None, :]
        w = tl.load(words + lies, mask=held, other=0)
        for run in tl.static_range(PER // RUN):
            group = tl.minimum((chunk * PER + run * RUN) * (2 * UNIT) // GROUP, GROUPS - 1)
            line = group[:, None] * N + n[None, :]
            scale = tl.load(scales + line, mask=inside[None, :], other=0.0).to(tl.float32)
            if HAS_OFFSETS:
                level = tl.load(offsets + line, mask=inside[None, :], other=0.0).to(tl.float32)
            else:
                level = -ZERO * scale
            dots = tl.zeros((PARTS, BLOCK, ROWS), tl.float32)
            sums = tl.zeros((PARTS, BLOCK, ROWS), tl.float32)  # of x: every row of it is the same
            for place in tl.static_range(run * RUN, run * RUN + RUN):
                k = ((chunk * PER + place) * (2 * UNIT))[:, None, None] + j[None, :, None]
                its = tl.load(x + r[None, None, :] * K + k, mask=there & (k < K), other=0.0)
                dots = tl.dot(_codes(w, place, BITS, KIND), its, dots, input_precision="ieee")
                sums = tl.dot(ones, its, sums, input_precision="ieee")
            total += dots * scale[:, :, None] + sums * level[:, :, None]
    result = tl.sum(total, axis=0)
    if HAS_BIAS:
        result += tl.load(bias + n, mask=inside, other=0.0)[:, None]
    tl.store(y + r[None, :] * N + n[:, None], result.to(y.dtype.element_ty), mask=inside[:, None] & (r < R)[None, :])


@triton.jit
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
def _line(scales, offsets, group, n, inside, N, ZERO: tl.constexpr, HAS_OFFSETS: tl.constexpr):
    """Scale and level of rows n in a group."""
    scale = tl.load(scales + group * N + n, mask=inside, other=0.0).to(tl.float32)
    if HAS_OFFSETS:
        level = tl.load(offsets + group * N + n, mask=inside, other=0.0).to(tl.float32)
    else:
        level = -ZERO * scale
    return scale[:, None], level[:, None]


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
            scale, level = _line(scales, offsets, group, n, inside, N, ZERO, HAS_OFFSETS)
            for place in tl.static_range(run * RUN, run * RUN + RUN):
                k = (chunk * PER + place) * (2 * UNIT) + j
                its = tl.load(x + r[None, :] * K + k[:, None], mask=there[None, :] & (k < K)[:, None], other=0.0)
                value = _codes(w, place, BITS, KIND).to(tl.float32) * scale + level
                total = tl.dot(value.to(KIND), its, total, input_precision="ieee")
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
        scale, level = _line(scales, offsets, group, n, inside, N, ZERO, HAS_OFFSETS)
        for place in tl.static_range(run * RUN, run * RUN + RUN):
            k = (chunk * PER + place) * (2 * UNIT) + j
            value = _codes(w, place, BITS, KIND).to(tl.float32) * scale + level
            lies = n[:, None].to(tl.int64) * K + k[None, :]
            tl.store(out + lies, value.to(KIND), mask=inside[:, None] & (k < K)[None, :])
