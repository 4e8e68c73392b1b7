"""The compiled step: every thread calls `step` once a pass, with its own number.

Arrays: x [T, C] is private to a thread; qkv, mixed, hidden, y and logits are shared. All are float32.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from core.decoder.fused.machine import array_at, barrier, call_product, exp, narrow, ticks, widen

# Columns of a row of `parts`: one product. PART_ROW is the first output row it fills.
FUNCTION, CODES, SCALES, OFFSETS, GROUPS, OCTETS, BLOCKS, PART_ROW = range(8)
# Columns of a row of `layers`.
QKV, OUT, GATE_UP, DOWN, KEYS, VALUES, KV_HEADS, ROPE, SINKS, WINDOW = range(10)
LAYER_COLUMNS = 10
NO_WINDOW = 1 << 60
# Rows of `norms` for each layer.
BEFORE_ATTENTION, AFTER_ATTENTION, BEFORE_FFN, AFTER_FFN = range(4)
# Phases of `spent`.
NORM, ATTENTION, FFN, HEAD = range(4)
# Entries of `numbers`.
EPS, SCALE, CAP, RESIDUAL = range(4)

_FAST = {"reassoc", "contract", "nsz", "arcp"}


@njit(nogil=True, fastmath=_FAST)
def _product(parts, first, last, x, sums, y, rows, thread, threads):
    """This thread's share of the output rows of parts first … last − 1."""
    width = x.shape[1]
    summed = -1
    for index in range(first, last):
        part = parts[index]
        groups = part[GROUPS]
        if groups != summed:
            size = width // groups
            for row in range(rows):
                for group in range(groups):
                    total = np.float32(0)
                    for k in range(group * size, (group + 1) * size):
                        total += x[row, k]
                    sums[row * groups + group] = total
            summed = groups
        begin = part[BLOCKS] * thread // threads
        end = part[BLOCKS] * (thread + 1) // threads
        if end > begin:
            call_product(part[FUNCTION], (
                part[CODES], part[SCALES], part[OFFSETS], x.ctypes.data, sums.ctypes.data,
                y.ctypes.data + 4 * part[PART_ROW], groups, part[OCTETS], y.shape[1], begin, end, rows,
            ))  # fmt: skip


@njit(nogil=True, fastmath=_FAST)
def _norm(x, weight, eps, out, columns):
    """RMS norm of one row."""
    total = np.float32(0)
    for i in range(columns):
        total += x[i] * x[i]
    factor = np.float32(1) / np.sqrt(total / np.float32(columns) + eps)
    for i in range(columns):
        out[i] = x[i] * factor * weight[i]


@njit(nogil=True, fastmath=_FAST)
def _norm_rows(x, present, weight, eps, out):
    """Norm every row where the family has this norm, else copy."""
    for row in range(len(x)):
        if present:
            _norm(x[row], weight, eps, out[row], x.shape[1])
        else:
            out[row] = x[row]


@njit(nogil=True, fastmath=_FAST)
def _add(x, y, present, weight, numbers, scratch):
    """x += residual scale · norm(y), row by row."""
    columns = x.shape[1]
    for row in range(len(x)):
        source = y[row]
        if present:
            _norm(y[row], weight, numbers[EPS], scratch, columns)
            source = scratch
        for i in range(columns):
            x[row, i] += source[i] * numbers[RESIDUAL]


@njit(nogil=True, fastmath=_FAST)
def _rotate(vector, cos, sin, half):
    for i in range(half):
        a, b = vector[i], vector[i + half]
        vector[i] = a * cos[i] - b * sin[i]
        vector[i + half] = b * cos[i] + a * sin[i]


@njit(nogil=True, fastmath=_FAST)
def _scores(q, keys, first, last, scores, at, numbers):
    """scores[at …] = scaled q · keys[first … last − 1]; returns the highest of them."""
    size = len(q)
    highest = np.float32(-3.0e38)
    for s in range(first, last):
        dot = np.float32(0)
        for d in range(size):
            dot += q[d] * widen(keys[s, d])
        dot *= numbers[SCALE]
        if numbers[CAP] != 0:
            dot = np.tanh(dot / numbers[CAP]) * numbers[CAP]
        scores[at + s - first] = dot
        highest = max(highest, dot)
    return highest


@njit(nogil=True, fastmath=_FAST)
def _mix(scores, at, values, first, last, out):
    """out += Σ scores[at + s] · values[first + s]."""
    for s in range(first, last):
        p = scores[at + s - first]
        for d in range(len(out)):
            out[d] += p * widen(values[s, d])


@njit(nogil=True, fastmath=_FAST)
def _attend(q, keys, values, sinks, first, end, scores, out, numbers):
    """Softmax attention of one head of one row over slots 0 … sinks − 1 and first … end; leaves the weights in `scores`."""
    count = sinks + end + 1 - first
    highest = max(_scores(q, keys, 0, sinks, scores, 0, numbers), _scores(q, keys, first, end + 1, scores, sinks, numbers))
    total = np.float32(0)
    for s in range(count):
        scores[s] = exp(scores[s] - highest)
        total += scores[s]
    factor = np.float32(1) / total
    for s in range(count):
        scores[s] *= factor
    out[:] = 0
    _mix(scores, 0, values, 0, sinks, out)
    _mix(scores, sinks, values, first, end + 1, out)


@njit(nogil=True, fastmath=_FAST)
def _store(qkv, head, heads, keys, values, slot, rotation, half, norm, numbers, scratch):
    """Norm and rotate the new keys of KV head `head` and write keys and values into the cache."""
    size = keys.shape[1]
    key_at, value_at = head * size, (heads + head) * size
    for row in range(len(qkv)):
        scratch[:size] = qkv[row, key_at : key_at + size]
        if len(norm):
            _norm(qkv[row, key_at : key_at + size], norm, numbers[EPS], scratch, size)
        _rotate(scratch, rotation[0, row], rotation[1, row], half)
        for d in range(size):
            keys[slot + row, d] = narrow(scratch[d], keys[0, 0])
            values[slot + row, d] = narrow(qkv[row, value_at + d], values[0, 0])


@njit(nogil=True, fastmath=_FAST)
def _attention(
    qkv, layer, like, capacity, slot, end, rotation, head_norms, numbers, scratch, mixed, seen, capture, thread, threads
):
    """This thread's heads of every row; the KV heads that they read are written by each thread that needs them."""
    rows, size = len(qkv), rotation.shape[2]
    kv_heads, half = layer[KV_HEADS], layer[ROPE]
    heads = mixed.shape[1] // size
    items = heads * rows
    written = -1
    q, room, scores = scratch[:size], scratch[size : 2 * size], scratch[2 * size :]
    for item in range(items * thread // threads, items * (thread + 1) // threads):
        head, row = item // rows, item % rows
        group = head * kv_heads // heads
        offset = group * capacity * size * like.itemsize
        keys = carray(array_at(layer[KEYS] + offset), (capacity, size), like.dtype)
        values = carray(array_at(layer[VALUES] + offset), (capacity, size), like.dtype)
        if group != written:
            _store(qkv[:, heads * size :], group, kv_heads, keys, values, slot, rotation, half, head_norms[1], numbers, room)
            written = group
        q[:] = qkv[row, head * size : (head + 1) * size]
        if len(head_norms[0]):
            _norm(qkv[row, head * size : (head + 1) * size], head_norms[0], numbers[EPS], q, size)
        _rotate(q, rotation[0, row], rotation[1, row], half)
        first = max(0, end + row + 1 - layer[WINDOW])
        sinks = min(layer[SINKS], first)
        _attend(q, keys, values, sinks, first, end + row, scores, mixed[row, head * size : (head + 1) * size], numbers)
        if capture >= 0:
            seen[capture, head, row, :sinks] = scores[:sinks]
            seen[capture, head, row, first : end + row + 1] = scores[sinks : sinks + end + row + 1 - first]


@njit(nogil=True, fastmath=_FAST)
def _gate(wide, hidden, gelu, thread, threads):
    """hidden = act(gate) · up for this thread's neurons; `wide` holds gate then up."""
    width = hidden.shape[1]
    begin, end = width * thread // threads, width * (thread + 1) // threads
    for row in range(len(hidden)):
        for i in range(begin, end):
            g = wide[row, i]
            # gelu's tanh form is x · σ(2·0.79788456·(x + 0.044715 x³)).
            z = np.float32(1.5957691216) * (g + np.float32(0.044715) * g * g * g) if gelu else g
            hidden[row, i] = g / (np.float32(1) + exp(-z)) * wide[row, width + i]


# Kept on disk by Numba, which looks at the age of this file alone: touch it when machine.py changes.
@njit(nogil=True, fastmath=_FAST, cache=True)
def step(
    thread, threads, meeting, x, layers, parts, norms, places, head_norms, biases, numbers, gelu, rotations, rope_of, like,
    capacity, slot, end, qkv, mixed, wide, hidden, y, head_part, head_rows, logits, scratch, sums, seen, capture, spent,
):  # fmt: skip
    """One pass of `len(x)` rows through all layers and, for the last `head_rows` of them, the head.

    places [4] says which norms of a layer exist; biases are added where they are not empty; seen [L or 1, H, T, slots]
    receives attention weights of layers that `capture` names; spent [4] collects clock ticks by phase.
    """
    rows, columns = x.shape
    normed = scratch[: rows * columns].reshape(rows, columns)
    rest = scratch[rows * columns :]
    epoch = 0
    now = ticks()
    for index in range(len(layers)):
        layer = layers[index]
        _norm_rows(x, places[BEFORE_ATTENTION], norms[index, BEFORE_ATTENTION], numbers[EPS], normed)
        then, now = now, ticks()
        spent[NORM] += now - then
        _product(parts, layer[QKV], layer[OUT], normed, sums, qkv, rows, thread, threads)
        epoch += 1
        barrier(meeting, epoch, threads)
        if biases.shape[1] and thread == 0:
            for row in range(rows):
                for i in range(biases.shape[1]):
                    qkv[row, i] += biases[index, i]
        if biases.shape[1]:
            epoch += 1
            barrier(meeting, epoch, threads)
        _attention(
            qkv, layer, like, capacity, slot, end, rotations[rope_of[index]], head_norms[index], numbers, rest, mixed,
            seen, capture[index], thread, threads,
        )  # fmt: skip
        epoch += 1
        barrier(meeting, epoch, threads)
        _product(parts, layer[OUT], layer[GATE_UP], mixed, sums, y, rows, thread, threads)
        epoch += 1
        barrier(meeting, epoch, threads)
        then, now = now, ticks()
        spent[ATTENTION] += now - then
        _add(x, y[:, :columns], places[AFTER_ATTENTION], norms[index, AFTER_ATTENTION], numbers, rest)
        _norm_rows(x, places[BEFORE_FFN], norms[index, BEFORE_FFN], numbers[EPS], normed)
        then, now = now, ticks()
        spent[NORM] += now - then
        _product(parts, layer[GATE_UP], layer[DOWN], normed, sums, wide, rows, thread, threads)
        epoch += 1
        barrier(meeting, epoch, threads)
        _gate(wide, hidden, gelu, thread, threads)
        epoch += 1
        barrier(meeting, epoch, threads)
        following = layers[index + 1, QKV] if index + 1 < len(layers) else head_part
        _product(parts, layer[DOWN], following, hidden, sums, y, rows, thread, threads)
        epoch += 1
        barrier(meeting, epoch, threads)
        then, now = now, ticks()
        spent[FFN] += now - then
        _add(x, y[:, :columns], places[AFTER_FFN], norms[index, AFTER_FFN], numbers, rest)
    _norm_rows(x, True, norms[len(layers), 0], numbers[EPS], normed)
    then, now = now, ticks()
    spent[NORM] += now - then
    _product(parts, head_part, len(parts), normed[rows - head_rows :], sums, logits, head_rows, thread, threads)
    epoch += 1
    barrier(meeting, epoch, threads)
    then, now = now, ticks()
    spent[HEAD] += now - then
