"""Passes of a few rows through the compiled step: buffers, threads, and what of a pass is to be captured."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from core.attention.context import Context
from core.attention.kernel import CHUNK, TOGETHER
from core.attention.mask import Reach
from core.cache.base import Buffers, Slots
from core.compiled.crew import crew
from core.compiled.jit import callable_at
from core.decoder.fused.records import NO_WINDOW, PASS, PHASES
from core.decoder.fused.step import step
from core.decoder.fused.table import Table, table_of
from core.decoder.model import Decoder
from core.decoder.probe import Probe


@dataclass
class _Run:
    """What stays from pass to pass of one run: its cache's buffers in the model's tables."""

    capacity: int
    tables: tuple[int, ...]  # addresses of cosines
    model: np.ndarray
    layers: np.ndarray


class Fused:
    """The compiled step bound to one decoder. `of` gives None where the decoder has no fused form."""

    def __init__(self, decoder: Decoder, table: Table) -> None:
        self.decoder, self.table = decoder, table
        self.crew = crew(torch.get_num_threads())
        self._runs: WeakKeyDictionary[Buffers, _Run] = WeakKeyDictionary()
        self._rooms: dict[int, _Room] = {}
        self._step = callable_at(step.address, 3)

    @classmethod
    def of(cls, decoder: Decoder) -> Fused | None:
        table = table_of(decoder)
        return None if table is None else cls(decoder, table)

    def takes(self, context: Context, rows: int) -> bool:
        """Whether a pass of `rows` tokens can go this way."""
        reaches = context.reaches
        if reaches is None or any(reach.sink_reach is not None for reach in reaches):
            return False  # sinks that a layer's own window ends are beyond the compiled mask
        return context.cache.slots(rows, reaches) is not None

    def forward(self, tokens: Tensor, context: Context, probe: Probe, all_logits: bool) -> Tensor:
        """Logits [T or 1, V] float32 of `tokens` [T], which follow those of `context`."""
        probe.start()
        rows, reaches = len(tokens), context.reaches
        assert reaches is not None
        x = self.decoder.embedded(tokens, context, probe).numpy()
        slots = context.cache.slots(rows, reaches)
        assert slots is not None
        run = self._run(slots.buffers, reaches)
        room = self._room(rows)
        logits = np.empty((rows if all_logits else 1, int(self.table.model["logits_width"][0])), np.float32)
        job = room.job(x, slots, context.length, logits, probe)
        start = perf_counter()
        model, address = run.model.ctypes.data, job.ctypes.data
        self.crew.run(lambda thread: self._step(thread, model, address))
        self._charge(probe, room.spent[0], perf_counter() - start)
        self._hand_over(probe, room, slots)
        context.advance(rows)
        return self.decoder.finished(torch.from_numpy(logits)[:, : self.decoder.head.out_features])

    def _room(self, rows: int) -> _Room:
        if rows not in self._rooms:
            self._rooms[rows] = _Room(self.table, rows, self.crew.threads)
        return self._rooms[rows]

    def _run(self, buffers: Buffers, reaches: Sequence[Reach]) -> _Run:
        """Made once for the buffers of a run, and again when they or the tables of rotations grow."""
        run, tables = self._runs.get(buffers), tuple(rope.cos.data_ptr() for rope in self.decoder.ropes)
        if run is None or (run.capacity, run.tables) != (buffers.capacity, tables):
            layers = self._layers(buffers, reaches)
            model = self.table.for_cache(buffers.keys[0].dtype)
            model["layers"] = layers.ctypes.data
            run = self._runs[buffers] = _Run(buffers.capacity, tables, model, layers)
        return run

    def _layers(self, buffers: Buffers, reaches: Sequence[Reach]) -> np.ndarray:
        layers = self.table.layers.copy()
        for index, block in enumerate(self.decoder.blocks):
            reach = reaches[index]
            layers["keys"][index], layers["values"][index] = buffers.addresses(index)
            layers["sinks"][index] = reach.sinks
            layers["window"][index] = NO_WINDOW if reach.window is None else reach.window
            if block.attention.rope is not None:
                layers["cos"][index] = block.attention.rope.cos.data_ptr()
                layers["sin"][index] = block.attention.rope.sin.data_ptr()
        return layers

    def _charge(self, probe: Probe, spent: np.ndarray, seconds: float) -> None:
        """Share the measured time among the phases by the clock ticks of thread 0."""
        total = int(spent.sum()) or 1
        for phase, count in zip(PHASES, spent.tolist(), strict=True):
            probe.add(phase, seconds * count / total)
        probe.start()

    def _hand_over(self, probe: Probe, room: _Room, slots: Slots) -> None:
        if not probe.attention_layers:
            return
        positions = slots.positions.int().numpy()
        for layer, weights in zip(sorted(probe.attention_layers), room.seen, strict=True):
            probe.attention(layer, weights.astype(np.float16), positions)
        probe.lap("capture")


class _Room:
    """Buffers for passes of `rows` rows, and the record that points to them."""

    def __init__(self, table: Table, rows: int, threads: int) -> None:
        m = {name: int(table.model[name][0]) for name in table.model.dtype.names or ()}
        self.heads, size = m["query_heads"], m["head_size"]
        self.private_size = 4 * rows * m["width"] + 6 * rows * m["widest"] + 12 * rows * m["most_groups"] + 64
        widths = {
            "qkv": m["qkv_width"], "queries": self.heads * size, "wide": m["wide_width"],
            "inner": m["ffn_width"], "output": m["output_width"],
        }  # fmt: skip
        self._arrays = {name: np.empty((rows, width), np.float32) for name, width in widths.items()}
        self.private = np.empty(threads * self.private_size, np.uint8)
        self.scores = np.empty((self.heads * rows, 0), np.float32)
        self.mixed = np.empty((0, self.heads * rows, size), np.float32)
        self.seen = np.empty((0, self.heads, rows, 0), np.float32)
        self.capture = np.full(m["layer_count"], -1)
        self.meeting, self.spent = np.zeros(1, np.int64), np.zeros((threads, len(PHASES)), np.int64)
        self.record = np.zeros(1, PASS)
        for name, array in self._arrays.items():
            self.record[name] = array.ctypes.data
        self.record["private"], self.record["capture"] = self.private.ctypes.data, self.capture.ctypes.data
        self.record["meeting"], self.record["spent"] = self.meeting.ctypes.data, self.spent.ctypes.data
        self.record["rows"], self.record["threads"], self.record["private_size"] = rows, threads, self.private_size

    def job(self, x: np.ndarray, slots: Slots, position: int, logits: np.ndarray, probe: Probe) -> np.ndarray:
        """The record of one pass; `x` and `logits` must outlive it."""
        record, seen = self.record, slots.end + len(x)
        self._make_room(seen, probe)
        self.meeting[0] = 0
        self.spent[:] = 0
        for name, value in (
            ("x", x.ctypes.data), ("logits", logits.ctypes.data), ("scores", self.scores.ctypes.data),
            ("mixed", self.mixed.ctypes.data), ("seen", self.seen.ctypes.data), ("head_rows", len(logits)),
            ("stride", self.scores.shape[1]), ("slots", seen), ("kv_bytes", slots.buffers.keys[0].itemsize),
            ("capacity", slots.buffers.capacity), ("slot", slots.first), ("end", slots.end), ("position", position),
        ):  # fmt: skip
            record[name] = value
        return record

    def _make_room(self, slots: int, probe: Probe) -> None:
        """For the scores of `slots` slots, with what the kernel overwrites after and between them, and for chunks of sums."""
        if self.scores.shape[1] < slots + 2 * TOGETHER:
            self.scores = np.empty((len(self.scores), 2 * slots + 2 * TOGETHER), np.float32)
            self.mixed = np.empty((2 * slots // CHUNK + 3, *self.mixed.shape[1:]), np.float32)
        wanted = sorted(probe.attention_layers)
        if wanted:
            self.seen = np.zeros((len(wanted), self.heads, self.record["rows"][0], slots), np.float32)
        self.capture[:] = -1
        self.capture[wanted] = np.arange(len(wanted))


def enabled() -> bool:
    """The compiled step can be turned off, to compare it with plain torch."""
    return os.environ.get("INFERENCE_PLAYGROUND_FUSED", "1") != "0"
