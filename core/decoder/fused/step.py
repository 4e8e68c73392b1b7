"""The compiled step: every thread calls it once a pass, with its own number."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numba import carray, cfunc, njit, types

from core.decoder.fused import attention
from core.decoder.fused.machine import array_at, barrier, call, floats, matrix, ticks
from core.decoder.fused.records import (
    AFTER_ATTENTION,
    AFTER_FFN,
    ATTENTION,
    BEFORE_ATTENTION,
    BEFORE_FFN,
    FFN,
    HEAD,
    LAYER,
    MODEL,
    NORM,
    PART,
    PASS,
)
from core.decoder.fused.vectors import FAST, add_rows, norm_rows


@njit(nogil=True)
def _product(m, parts, first, last, x, width, y, y_width, rows, room, thread, threads):
    """This thread's share of the output rows of parts first … last − 1. room: the address of space for quantized x."""
    values, scales = room, room + 2 * rows * m.widest
    sums, shares = scales + 4 * rows * m.most_groups, scales + 8 * rows * m.most_groups
    quantized = 0
    for index in range(first, last):
        part = parts[index]
        if part.groups and part.groups != quantized:
            quantized = part.groups
            call(m.quantizer, (x, values, scales, sums, shares, rows * quantized, width // quantized))
        begin, end = part.blocks * thread // threads, part.blocks * (thread + 1) // threads
        if end > begin:
            call(part.function, (
                part.codes, part.scales, part.offsets, values if part.groups else x, scales, sums, shares,
                y + 4 * part.first_row, part.groups, part.units, y_width, begin, end, rows,
            ))  # fmt: skip


@njit(nogil=True)
def _gate(m, p, thread):
    """This thread's neurons of every row."""
    begin, end = m.ffn_width * thread // p.threads, m.ffn_width * (thread + 1) // p.threads
    call(m.gate, (p.wide, p.inner, m.wide_width, m.ffn_width, 0, p.rows, begin, end))


@njit(nogil=True)
def _charge(spent, phase, since):
    now = ticks()
    spent[phase] += now - since
    return now


@njit(nogil=True, fastmath=FAST)
def _walk(thread, m, p):
    """One pass of p.rows rows through all layers and, for the last p.head_rows of them, the head."""
    rows, width, threads = p.rows, m.width, p.threads
    parts = carray(array_at(m.parts), m.part_count, PART)
    layers = carray(array_at(m.layers), m.layer_count, LAYER)
    norms = carray(array_at(m.norms), (m.layer_count + 1, 4, width), np.float32)
    capture = carray(array_at(p.capture), m.layer_count, np.int64)
    spent = carray(array_at(p.spent), (threads, 4), np.int64)[thread]
    own = p.private + thread * p.private_size
    x, wide_room = matrix(own, rows, width), own + 4 * rows * width
    room = wide_room + 4 * rows * m.widest
    normed, heads = matrix(wide_room, rows, width), matrix(wide_room, rows, m.query_heads * m.head_size)
    one, output = floats(wide_room, m.widest), matrix(p.output, rows, m.output_width)
    x[:] = matrix(p.x, rows, width)
    epoch, now = 0, ticks()
    for index in range(m.layer_count):
        layer = layers[index]
        norm_rows(x, m.norm_before_attention, norms[index, BEFORE_ATTENTION], m.eps, normed)
        now = _charge(spent, NORM, now)
        _product(m, parts, layer.qkv, layer.out, wide_room, width, p.qkv, m.qkv_width, rows, room, thread, threads)
        barrier(p.meeting, epoch + 1, threads)
        attention.place_heads(m, p, layer, one, thread)
        barrier(p.meeting, epoch + 2, threads)
        attention.score(m, p, layer, thread)
        barrier(p.meeting, epoch + 3, threads)
        attention.weigh(m, p, layer, capture[index], thread)
        barrier(p.meeting, epoch + 4, threads)
        chunks = attention.mix(m, p, layer, thread)
        barrier(p.meeting, epoch + 5, threads)
        attention.gather(m, p, layer, chunks, heads)
        _product(
            m, parts, layer.out, layer.gate_up, wide_room, heads.shape[1], p.output, m.output_width, rows, room, thread, threads
        )
        barrier(p.meeting, epoch + 6, threads)
        now = _charge(spent, ATTENTION, now)
        add_rows(x, output, m.norm_after_attention, norms[index, AFTER_ATTENTION], m.eps, m.residual, one)
        norm_rows(x, m.norm_before_ffn, norms[index, BEFORE_FFN], m.eps, normed)
        now = _charge(spent, NORM, now)
        _product(m, parts, layer.gate_up, layer.down, wide_room, width, p.wide, m.wide_width, rows, room, thread, threads)
        barrier(p.meeting, epoch + 7, threads)
        _gate(m, p, thread)
        barrier(p.meeting, epoch + 8, threads)
        _product(m, parts, layer.down, layer.end, p.inner, m.ffn_width, p.output, m.output_width, rows, room, thread, threads)
        barrier(p.meeting, epoch + 9, threads)
        now = _charge(spent, FFN, now)
        add_rows(x, output, m.norm_after_ffn, norms[index, AFTER_FFN], m.eps, m.residual, one)
        epoch += 9
    norm_rows(x, True, norms[m.layer_count, 0], m.eps, normed)
    now = _charge(spent, NORM, now)
    last = wide_room + 4 * (rows - p.head_rows) * width
    _product(m, parts, m.head_part, m.part_count, last, width, p.logits, m.logits_width, p.head_rows, room, thread, threads)
    barrier(p.meeting, epoch + 1, threads)
    _charge(spent, HEAD, now)


def _compiled(sources: int) -> Any:
    """The step as a C function. Numba keeps it on disk under its own code and this closure: a change in what it calls
    changes `sources`, and it is compiled again."""

    @cfunc(types.void(types.intp, types.intp, types.intp), cache=True)
    def step(thread, model, run):
        if thread != sources:  # always so
            _walk(thread, carray(array_at(model), 1, MODEL)[0], carray(array_at(run), 1, PASS)[0])

    return step


def _digest() -> int:
    """A number no thread has, made of the sources of this package."""
    text = b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))
    return -1 - int.from_bytes(hashlib.sha256(text).digest()[:6], "little")


step = _compiled(_digest())
