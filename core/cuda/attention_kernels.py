"""Triton kernels: attention of a few query rows over a static cache, whose slots are divided among programs.

Slots are divided in the same places whatever the size of the cache, and what a row does not see adds nothing, so a row comes
out the same bit for bit in every bucket and in any company.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _seen(position, slots, WINDOW: tl.constexpr, SINKS: tl.constexpr, SINK_REACH: tl.constexpr):
    """core/attention/mask.py's Reach; 0 is unlimited."""
    distance = position - slots
    if WINDOW == 0:
        return distance >= 0
    near = distance < WINDOW
    if SINKS > 0:
        sink = slots < SINKS
        if SINK_REACH > 0:
            sink = sink & (distance < SINK_REACH)
        near = near | sink
    return (distance >= 0) & near


@triton.jit
def attend_part(
    q, keys, values, positions, mask, sums, tops, masses, scale, cap, count, mask_step, batch_step, head_step, slot_step,
    T: tl.constexpr, G: tl.constexpr, SHARED: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr,
    SLOTS: tl.constexpr, CAPPED: tl.constexpr, MASKED: tl.constexpr, WINDOW: tl.constexpr, SINKS: tl.constexpr,
    SINK_REACH: tl.constexpr,
):  # fmt: skip
    """SLOTS slots of one KV head for one row and the SHARED query heads that read it.

    q [B, T, G · SHARED, D]; keys and values [B, G, capacity, D] in steps of so many numbers. Where MASKED, a mask
    [1 or G, T, count] of bytes says what is seen; mask_step is 0 where heads do not differ. Keys and values that are not seen
    are not read. Writes, for each query head and run of slots, the weighted sum of values (sums), the highest score (tops)
    and the sum of weights under it (masses). HEADS and WIDTH: SHARED and D, rounded up to what tensor cores take.
    """
    place, run, runs = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    row, group = place // G, place % G
    position, slots = tl.load(positions + row % T), run * SLOTS + tl.arange(0, SLOTS)
    h, d = tl.arange(0, HEADS), tl.arange(0, WIDTH)
    head = (row * G + group) * SHARED + h  # of all rows' heads
    written = head.to(tl.int64) * runs + run
    if MASKED:
        seen = tl.load(mask + group * mask_step + row % T * count + slots, mask=slots < count, other=0) != 0
    else:
        seen = _seen(position, slots, WINDOW, SINKS, SINK_REACH)
    if tl.max(seen.to(tl.int32), axis=0) > 0:
        first = (row // T).to(tl.int64) * batch_step + group.to(tl.int64) * head_step
        lies = first + slots.to(tl.int64)[:, None] * slot_step + d[None, :]
        held = seen[:, None] & (d < D)[None, :]
        query = tl.load(q + head[:, None] * D + d[None, :], mask=(h < SHARED)[:, None] & (d < D)[None, :], other=0.0)
        key = tl.load(keys + lies, mask=held, other=0.0)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        if CAPPED:
            scores = cap * (2 * tl.sigmoid(2 * scores / cap) - 1)
        scores = tl.where(seen[None, :], scores, -float("inf"))
        top = tl.max(scores, axis=1)
        weights = tl.exp(scores - top[:, None])
        value = tl.load(values + lies, mask=held, other=0.0)
        total = tl.dot(weights.to(value.dtype), value, input_precision="ieee")
        tl.store(sums + written[:, None] * WIDTH + d[None, :], total, mask=(h < SHARED)[:, None])
        tl.store(tops + written, top, mask=h < SHARED)
        tl.store(masses + written, tl.sum(weights, axis=1), mask=h < SHARED)
    else:
        tl.store(tops + written, tl.full((HEADS,), -float("inf"), tl.float32), mask=h < SHARED)


@triton.jit
def attend_whole(sums, tops, masses, out, D: tl.constexpr, WIDTH: tl.constexpr, RUNS: tl.constexpr, AT_ONCE: tl.constexpr):
    """Join the runs of one query head of one row a program: out [rows · heads, D]. The first run that is seen comes early."""
    head, d = tl.program_id(0), tl.arange(0, WIDTH)
    top, mass, total = tl.full((), -float("inf"), tl.float32), tl.zeros((), tl.float32), tl.zeros((WIDTH,), tl.float32)
    for first in tl.range(0, RUNS, AT_ONCE):
        run = first + tl.arange(0, AT_ONCE)
        written = head.to(tl.int64) * RUNS + run
        its = tl.load(tops + written, mask=run < RUNS, other=-float("inf"))
        seen = its > -float("inf")
        higher = tl.maximum(top, tl.max(its, axis=0))
        anchor = tl.where(higher > -float("inf"), higher, 0.0)
        weight, kept = tl.where(seen, tl.exp(its - anchor), 0.0), tl.exp(top - anchor)
        part = tl.load(sums + written[:, None] * WIDTH + d[None, :], mask=seen[:, None], other=0.0)
        mass = mass * kept + tl.sum(weight * tl.load(masses + written, mask=seen, other=0.0), axis=0)
        total = total * kept + tl.sum(weight[:, None] * part, axis=0)
        top = higher
    tl.store(out + head * D + d, (total / mass).to(out.dtype.element_ty), mask=d < D)
