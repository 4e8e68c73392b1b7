"""What rows of a pass see of the cache, in chunks: of coded blocks first, then of slots.

Blocks and the slots after them are divided at fixed tokens of the run, not at fixed slots, so that a row has the same chunks
whichever blocks are stored when it comes; the first slots, which hold tokens that no block does, are chunks of their own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import carray, njit

from core.attention.kernel import CHUNK
from core.decoder.fused.machine import array_at


class Chunks(NamedTuple):
    """Chunks that some rows see. coded: of blocks, `tokens` in all; then of sinks, `of_sinks`; `total` with all others.

    sinks: slots of these. first, stop: slots that any row sees besides them. start, shift: where the first chunk after those
    of the sinks begins, which is slot start · CHUNK − shift.
    """

    coded: int
    tokens: int
    of_sinks: int
    total: int
    sinks: int
    first: int
    stop: int
    start: int
    shift: int


class Chunk(NamedTuple):
    """One chunk of slots: the slot it begins at, below 0 where its first tokens are in blocks, and what rows see of it.

    sunk: the end of the sinks in it, from 0; begin, end: of the slots besides them.
    """

    slot: int
    sunk: int
    begin: int
    end: int


@njit(nogil=True)
def coded_tokens(p, row):
    """Tokens of coded blocks that a row sees."""
    return carray(array_at(p.coded), p.rows, np.int64)[row]


@njit(nogil=True)
def first_slot(m, p, layer, row):
    """The first slot that a row sees besides the sinks."""
    if m.coded_scores:
        return p.exact + coded_tokens(p, row) - p.stored
    return max(0, p.end + row + 1 - layer.window)


@njit(nogil=True)
def chunks_of(m, p, layer, first_row, rows):
    """What these rows see."""
    first, stop = first_slot(m, p, layer, first_row), p.end + first_row + rows
    if m.coded_scores:
        tokens, sinks, shift = coded_tokens(p, first_row + rows - 1), min(p.exact, stop), p.stored - p.exact
        coded, of_sinks, start = (tokens + CHUNK - 1) // CHUNK, (sinks + CHUNK - 1) // CHUNK, (first + shift) // CHUNK
    else:
        coded, tokens, sinks, shift = 0, 0, layer.sinks, 0
        if sinks >= first:
            sinks, first = 0, 0
        of_sinks = (sinks + CHUNK - 1) // CHUNK
        start = max(first // CHUNK, of_sinks)
    others = max(0, (stop + shift + CHUNK - 1) // CHUNK - start)
    return Chunks(coded, tokens, of_sinks, coded + of_sinks + others, sinks, first, stop, start, shift)


@njit(nogil=True)
def chunk_of(m, chunks, index):
    """Chunk `index`, after those of blocks."""
    index -= chunks.coded
    sinks, first, stop = chunks.sinks, chunks.first, chunks.stop
    if index < chunks.of_sinks:
        slot = index * CHUNK
        if m.coded_scores:
            first = stop = sinks
    else:
        slot = (index - chunks.of_sinks + chunks.start) * CHUNK - chunks.shift
        if m.coded_scores:
            sinks = slot
    return Chunk(slot, max(0, min(sinks - slot, CHUNK)), max(0, min(first - slot, CHUNK)), min(stop - slot, CHUNK))


@njit(nogil=True)
def seen_of(m, p, layer, chunk, row):
    """What one row sees of a chunk of slots: the end of the sinks, and the begin and end of the others."""
    from_, end = first_slot(m, p, layer, row), p.end + row + 1
    sinks = p.exact if m.coded_scores else layer.sinks
    sunk = max(0, min(sinks, from_, end) - chunk.slot)
    if m.coded_scores and chunk.sunk == 0:
        sunk = 0
    begin, end = min(max(0, from_ - chunk.slot), chunk.end), min(end - chunk.slot, chunk.end)
    return min(sunk, chunk.end), begin, max(begin, end)
