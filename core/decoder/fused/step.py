"""The compiled step: every thread calls it once a pass, with its own number.

Layers that attend, or feed forward, outside of it make thread 0 return to Python and call again, while the others wait.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, njit, types

from core.decoder.fused import attention
from core.decoder.fused.bucketing import choose_by_buckets, fill_buckets
from core.decoder.fused.choosing import choose, summarize
from core.decoder.fused.chunks import chunks_of
from core.decoder.fused.expanding import attend_to_latents, join_latents
from core.decoder.fused.experts import feed_experts
from core.decoder.fused.listed import attend_to_lists, chunks_of_lists
from core.decoder.fused.machine import array_at, call, floats, matrix, ticks
from core.decoder.fused.mixture import feed_mixture
from core.decoder.fused.placing import place_heads
from core.decoder.fused.products import charge, meet, own_of, product
from core.decoder.fused.ranking import choose_highest, score_keys
from core.decoder.fused.records import (
    AFTER_ATTENTION,
    AFTER_FFN,
    ATTENTION,
    BEFORE_ATTENTION,
    BEFORE_FFN,
    CAPTURE,
    FFN,
    HEAD,
    LAYER,
    MODEL,
    NORM,
    NOW,
    PASS,
)
from core.decoder.fused.sharing import even_share
from core.decoder.fused.sources import SOURCES
from core.decoder.fused.vectors import FAST, add_rows, norm_rows
from core.weights.kernel import MOST_ROWS


@njit(nogil=True, fastmath=FAST)
def _norm(m, p, own, present, index, place):
    norms = carray(array_at(m.norms), (m.layer_count + 1, 4, m.width), np.float32)
    norm_rows(matrix(own.x, p.rows, m.width), present, norms[index, place], m.eps, matrix(own.h, p.rows, m.width))
    charge(own, NORM)


@njit(nogil=True, fastmath=FAST)
def _add(m, p, own, present, index, place):
    """x += what all threads computed."""
    norms = carray(array_at(m.norms), (m.layer_count + 1, 4, m.width), np.float32)
    x, output, room = matrix(own.x, p.rows, m.width), matrix(p.output, p.rows, m.output_width), floats(own.h, m.widest)
    add_rows(x, output, present, norms[index, place], m.eps, m.residual, room)


@njit(nogil=True)
def _project(m, p, own, layer, index):
    """Queries, keys and values of every row, where attention finds them."""
    _norm(m, p, own, m.norm_before_attention, index, BEFORE_ATTENTION)
    product(m, p, own, layer.qkv, layer.out, own.h, m.width, p.qkv, m.qkv_width, p.rows)
    meet(p, own)
    place_heads(m, p, layer, floats(own.h, m.widest), own.thread)
    meet(p, own)


@njit(nogil=True)
def _attend(m, p, own, layer, index):
    """Attention over the cache; returns the address of what it gives [T, H · D]."""
    if layer.listed:
        _attend_listed(m, p, own, layer, index)
        return own.h
    seen = carray(array_at(p.capture), m.layer_count, np.int64)[index]
    for row in range(0, p.rows, MOST_ROWS):
        rows = min(MOST_ROWS, p.rows - row)
        if row:
            meet(p, own)
        place = m.part_count + row * m.layer_count + index
        if layer.latent:
            attend_to_latents(m, p, layer, own.scores, seen, row, rows, own.thread, place)
            meet(p, own)
            join_latents(m, p, layer, row, rows, own.thread)
        else:
            attention.attend_in_chunks(m, p, layer, own.scores, seen, row, rows, own.thread, place)
            meet(p, own)
            attention.join_chunks(m, p, layer, chunks_of(m, p, layer, row, rows).total, row, rows, own.h)
        if seen >= 0:
            charge(own, ATTENTION)
            attention.show_weights(m, p, layer, seen, row, rows, own.thread)
            charge(own, CAPTURE)
    if not layer.latent:
        return own.h
    meet(p, own)
    return p.queries


@njit(nogil=True)
def _attend_listed(m, p, own, layer, index):
    """The same to listed slots, row by row; some layers list them now."""
    if layer.summaries:
        summarize(m, p, layer, own.thread)
    if layer.rotations:
        fill_buckets(m, p, layer)
    for row in range(p.rows):
        if row:
            meet(p, own)
        _choose(m, p, own, layer, index, row)
        attend_to_lists(m, p, layer, own.scores, row, own.thread, m.part_count + row * m.layer_count + index)
        meet(p, own)
        attention.join_chunks(m, p, layer, chunks_of_lists(p, layer, row), row, 1, own.h)


@njit(nogil=True)
def _choose(m, p, own, layer, index, row):
    """List what a row sees, where rows choose; by scores for several rows at once."""
    if layer.summaries:
        choose(m, p, layer, row, own.thread)
        meet(p, own)
    elif layer.rotations:
        choose_by_buckets(m, p, layer, row, own.thread)
        meet(p, own)
    elif layer.highest and row % MOST_ROWS == 0:
        rows = min(MOST_ROWS, p.rows - row)
        score_keys(m, p, layer, row, rows, own.thread, m.part_count + (p.rows + row) * m.layer_count + index)
        meet(p, own)
        choose_highest(m, p, layer, row, rows, own.thread)
        meet(p, own)


@njit(nogil=True)
def _take_in(m, p, own, layer, index, attended):
    """What attention gave, into x; then the norm before the feed-forward block."""
    width = m.query_heads * m.head_size
    product(m, p, own, layer.out, layer.gate_up, attended, width, p.output, m.output_width, p.rows)
    meet(p, own)
    charge(own, ATTENTION)
    _add(m, p, own, m.norm_after_attention, index, AFTER_ATTENTION)
    _norm(m, p, own, m.norm_before_ffn, index, BEFORE_FFN)


@njit(nogil=True)
def _feed(m, p, own, layer, index):
    """The gated feed-forward block, all of it or some experts of each row."""
    if layer.mixes:
        feed_mixture(m, p, own, layer, index)
        meet(p, own)
        return
    if layer.experts:
        feed_experts(m, p, own, layer, index)
    else:
        product(m, p, own, layer.gate_up, layer.down, own.h, m.width, p.wide, m.wide_width, p.rows)
        meet(p, own)
        begin, end = even_share(p, own.thread, m.ffn_width)
        call(m.gate, (p.wide, p.inner, m.wide_width, m.ffn_width, 0, p.rows, begin, end))
    meet(p, own)
    product(m, p, own, layer.down, layer.end, p.inner, m.ffn_width, p.output, m.output_width, p.rows)
    meet(p, own)


@njit(nogil=True)
def _head(m, p, own):
    _norm(m, p, own, True, m.layer_count, 0)
    last = own.h + 4 * (p.rows - p.head_rows) * m.width
    product(m, p, own, m.head_part, m.part_count, last, m.width, p.logits, m.logits_width, p.head_rows)
    meet(p, own)
    charge(own, HEAD)


@njit(nogil=True)
def _leaves(p, own, stop):
    """Whether this is thread 0, which then returns to Python."""
    if own.thread:
        return False
    p.left = stop
    return True


@njit(nogil=True)
def _walk(thread, m, p):
    """One pass of p.rows rows through all layers and, for the last p.head_rows of them, the head.

    Thread 0 goes on where it left.
    """
    own, left = own_of(thread, m, p), p.left if thread == 0 else -1
    layers = carray(array_at(m.layers), m.layer_count, LAYER)
    own.counts[NOW] = ticks()
    if left < 0:
        matrix(own.x, p.rows, m.width)[:] = matrix(p.x, p.rows, m.width)
    for index in range(max(0, left) // 2, m.layer_count):
        layer, stop = layers[index], 2 * index
        if left < stop:
            _project(m, p, own, layer, index)
            if layer.attends_outside and _leaves(p, own, stop):
                charge(own, ATTENTION)
                return
        if left <= stop:
            attended = p.queries
            if layer.attends_outside:
                meet(p, own)
            else:
                attended = _attend(m, p, own, layer, index)
            _take_in(m, p, own, layer, index, attended)
            if layer.feeds_outside:
                meet(p, own)
                if _leaves(p, own, stop + 1):
                    return
        if layer.feeds_outside:
            meet(p, own)
        else:
            _feed(m, p, own, layer, index)
        charge(own, FFN)
        _add(m, p, own, m.norm_after_ffn, index, AFTER_FFN)
    _head(m, p, own)


def _compiled(sources: int) -> Any:
    """The step, kept on disk for these sources. What it raises in any thread comes through to its caller."""

    @njit(types.void(types.intp, types.intp, types.intp), nogil=True, cache=True)
    def step(thread, model, run):
        if thread != sources:  # always so
            _walk(thread, carray(array_at(model), 1, MODEL)[0], carray(array_at(run), 1, PASS)[0])

    return step


step = _compiled(SOURCES)
