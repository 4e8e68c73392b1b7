"""Passes of a few rows through the compiled step: buffers, threads, and what of a pass is to be captured."""

from __future__ import annotations

import os
from collections.abc import Sequence
from time import perf_counter
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from core.attention.mask import Reach
from core.cache.base import Buffers, Cache, Slots
from core.decoder.fused import step as s
from core.decoder.fused.crew import crew
from core.decoder.fused.table import Table, table_of
from core.decoder.model import Decoder
from core.decoder.probe import Probe

_PHASES = ("norm", "attention", "ffn", "head")


class Fused:
    """The compiled step bound to one decoder. `of` gives None where the decoder has no fused form."""

    def __init__(self, decoder: Decoder, table: Table) -> None:
        self.decoder, self.table = decoder, table
        self.crew = crew(torch.get_num_threads())
        self._runs: WeakKeyDictionary[Buffers, tuple[int, np.ndarray]] = WeakKeyDictionary()
        self._buffers: dict[int, list[np.ndarray]] = {}

    @classmethod
    def of(cls, decoder: Decoder) -> Fused | None:
        table = table_of(decoder)
        return None if table is None else cls(decoder, table)

    def takes(self, cache: Cache, rows: int, reaches: Sequence[Reach]) -> bool:
        """Whether a pass of `rows` tokens over `cache` can go this way."""
        if any(reach.sinks for reach in reaches) and any(block.attention.window for block in self.decoder.blocks):
            return False  # sinks that a layer's own window ends are beyond the compiled mask
        return cache.slots(rows, reaches) is not None

    def forward(self, tokens: Tensor, cache: Cache, reaches: Sequence[Reach], probe: Probe, all_logits: bool) -> Tensor:
        """Logits [T or 1, V] float32 of `tokens` [T], which follow what `cache` holds."""
        probe.start()
        rows, head_rows = len(tokens), len(tokens) if all_logits else 1
        x = (self.decoder.embed(tokens) * self.decoder.traits.embed_scale).numpy()
        probe.lap("embed")
        slots = cache.slots(rows, reaches)
        assert slots is not None
        rotations = self._rotations(cache, rows)
        layers = self._layers(slots.buffers, reaches)
        seen, capture = self._seen(probe, rows, slots.end + rows)
        logits = np.empty((head_rows, self.table.padded[3]), np.float32)
        shared = self._shared(rows)
        meeting, spent = np.zeros(8, np.int64), np.zeros((self.crew.threads, 4), np.int64)
        t = self.table
        need = x.size + 2 * self.decoder.traits.head_size + slots.end + rows + x.shape[1]
        # Made here, since a helper thread that ran out of memory would leave the others waiting at a barrier.
        private = [
            (x.copy(), np.empty(need, np.float32), np.empty(rows * t.most_groups, np.float32)) for _ in range(self.crew.threads)
        ]
        start = perf_counter()

        def work(thread: int) -> None:
            own, scratch, sums = private[thread]
            s.step(
                thread, self.crew.threads, meeting.ctypes.data, own, layers, t.parts, t.norms, t.places, t.head_norms,
                t.biases, t.numbers, t.gelu, rotations, t.rope_of, slots.buffers.like, slots.buffers.capacity, slots.first,
                slots.end, *shared, t.head_part, head_rows, logits, scratch, sums, seen, capture, spent[thread],
            )  # fmt: skip

        self.crew.run(work)
        self._charge(probe, spent[0], perf_counter() - start)
        self._hand_over(probe, seen, capture, slots)
        cache.advance(rows)
        return self._finished(logits)

    def _finished(self, logits: np.ndarray) -> Tensor:
        traits = self.decoder.traits
        out = torch.from_numpy(logits)[:, : self.decoder.head.out_features]
        if traits.logit_scale != 1:
            out = out * traits.logit_scale
        return traits.logit_cap * torch.tanh(out / traits.logit_cap) if traits.logit_cap else out

    def _shared(self, rows: int) -> list[np.ndarray]:
        """qkv, mixed, wide, hidden and y for passes of `rows` rows."""
        if rows not in self._buffers:
            t, traits = self.table, self.decoder.traits
            widths = (t.padded[0], traits.query_heads * traits.head_size, t.padded[1], traits.ffn_width, t.padded[2])
            self._buffers[rows] = [np.empty((rows, width), np.float32) for width in widths]
        return self._buffers[rows]

    def _layers(self, buffers: Buffers, reaches: Sequence[Reach]) -> np.ndarray:
        """The table of layers with what a run adds to it; made once for the buffers of a run, and again when they grow."""
        capacity, layers = self._runs.get(buffers, (0, self.table.layers))
        if capacity != buffers.capacity:
            layers = self._layers_of(buffers, reaches)
            self._runs[buffers] = buffers.capacity, layers
        return layers

    def _layers_of(self, buffers: Buffers, reaches: Sequence[Reach]) -> np.ndarray:
        layers = self.table.layers.copy()
        for index, block in enumerate(self.decoder.blocks):
            reach = reaches[index] & Reach(0, block.attention.window)
            keys, values = buffers.addresses(index)
            layers[index, s.KEYS], layers[index, s.VALUES] = keys, values
            layers[index, s.SINKS] = reach.sinks
            layers[index, s.WINDOW] = s.NO_WINDOW if reach.window is None else reach.window
        return layers

    def _rotations(self, cache: Cache, rows: int) -> np.ndarray:
        """[ropes, cos and sin, T, D]; only the first half of the rotated values is filled."""
        size, position = self.decoder.traits.head_size, cache.length
        rotations = np.zeros((max(1, len(self.decoder.ropes)), 2, rows, size), np.float32)
        for index, rope in enumerate(self.decoder.ropes):
            rope.reserve(position + rows, cache.layout.tokens)
            half = rope.rope.size // 2
            rotations[index, 0, :, :half] = rope.cos[position : position + rows].numpy()
            rotations[index, 1, :, :half] = rope.sin[position : position + rows].numpy()
        return rotations

    def _seen(self, probe: Probe, rows: int, slots: int) -> tuple[np.ndarray, np.ndarray]:
        wanted = sorted(probe.attention_layers)
        capture = np.full(self.decoder.traits.layers, -1)
        capture[wanted] = np.arange(len(wanted))
        heads = self.decoder.traits.query_heads
        return np.zeros((len(wanted), heads, rows, slots) if wanted else (1, 1, 1, 1), np.float32), capture

    def _charge(self, probe: Probe, spent: np.ndarray, seconds: float) -> None:
        """Share the measured time among the phases by the clock ticks of thread 0."""
        total = int(spent.sum()) or 1
        for phase, count in zip(_PHASES, spent.tolist(), strict=True):
            probe.add(phase, seconds * count / total)
        probe.start()

    def _hand_over(self, probe: Probe, seen: np.ndarray, capture: np.ndarray, slots: Slots) -> None:
        positions = slots.positions.int().numpy()
        for layer in sorted(probe.attention_layers):
            probe.attention(layer, seen[capture[layer]].astype(np.float16), positions)
        if probe.attention_layers:
            probe.lap("capture")


def enabled() -> bool:
    """The compiled step can be turned off, to compare it with plain torch."""
    return os.environ.get("INFERENCE_PLAYGROUND_FUSED", "1") != "0"
