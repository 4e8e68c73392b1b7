"""Buffers for passes of so many rows, and the record that points to them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from core.attention.coded_kernel import room_nbytes
from core.attention.few_laid import laid_nbytes
from core.attention.kernel import CHUNK
from core.attention.latent_kernel import RUN
from core.cache.base import Coded, Slots, lines
from core.decoder.fused.attention import ROOM
from core.decoder.fused.machine import BROKEN
from core.decoder.fused.records import COUNTS, PASS
from core.decoder.fused.routes import routes_size
from core.decoder.fused.table import Table
from core.decoder.model import Attention
from core.weights.kernel import MOST_ROWS

_KEPT = ("private", "capture", "meeting", "claims", "counts", "coded", "routes", "chosen", "shares", "added")


class Room:
    """attended [T, H, D] and output [T, C] are for Python to fill, where it attends or feeds forward; normed [T, C] is what a
    feed-forward block takes. shown [captured layers, H, T, S] float16 are the attention weights of the last pass."""

    def __init__(self, table: Table, rows: int, threads: int) -> None:
        m = {name: int(table.model[name][0]) for name in table.model.dtype.names or ()}
        self.rows, self.heads, self.head_size, self._threads = rows, m["query_heads"], m["head_size"], threads
        self._queries = min(rows, MOST_ROWS) * self.heads // max(1, int(table.layers["kv_heads"].min()))
        widths = {
            "qkv": m["qkv_width"], "queries": self.heads * self.head_size, "wide": max(m["wide_width"], 2 * m["inner_room"]),
            "inner": max(m["ffn_width"], m["inner_room"]), "output": m["output_width"],
        }  # fmt: skip
        self._arrays = {name: np.empty((rows, width), np.float32) for name, width in widths.items()}
        scores, taken = 4 * self.heads * MOST_ROWS * ROOM, 4 * rows * m["taken_width"]
        private_size = scores + taken + 4 * rows * m["width"] + 6 * rows * m["widest"] + 12 * rows * m["most_groups"] + 64
        self.private = np.empty((threads, private_size), np.uint8)
        laid_size = laid_nbytes(self.head_size, self._queries)
        self.laid = lines(threads * laid_size)
        of_latents = CHUNK * (self.head_size + m["latent_width"]) + RUN * self.head_size
        gathered_size = 4 * max(of_latents, 2 * CHUNK * self.head_size)
        self.gathered = lines(threads * gathered_size)
        self.mixed = np.empty((0, self.heads * MOST_ROWS, max(self.head_size, m["latent_width"])), np.float32)
        self.stats = np.empty((0, self.heads * MOST_ROWS, 2), np.float32)
        self.seen = np.empty(0, np.float32)
        self.shown = np.zeros((0, self.heads, rows, 0), np.float16)
        self.coded, self.folded = np.zeros(rows, np.int64), np.empty((threads, 0), np.uint8)
        self.capture = np.full(m["layer_count"], -1)
        self.meeting, self.counts = np.zeros(1, np.int64), np.zeros((threads, COUNTS), np.int64)
        self.claims = np.zeros(m["part_count"] + 2 * rows * m["layer_count"], np.int64)
        self.routes = np.empty((rows, m["most_experts"] + 1), np.float32)
        chosen_size = routes_size(rows, m["most_used"], m["most_experts"])
        self.chosen = np.empty((m["layer_count"], threads, chosen_size), np.int64)
        self.shares = np.empty((m["layer_count"], threads, rows * m["most_lines"]), np.float32)
        self.added = np.empty((rows * m["most_lines"], m["output_width"]), np.float32)
        self.record = np.zeros(1, PASS)
        self._fill(rows=rows, threads=threads, private_size=private_size, laid=self.laid.data_ptr(), laid_size=laid_size)
        self._fill(gathered=self.gathered.data_ptr(), gathered_size=gathered_size, chosen_size=chosen_size)
        self._fill(**{name: array.ctypes.data for name, array in self._arrays.items()})
        self._fill(**{name: getattr(self, name).ctypes.data for name in _KEPT})
        width = m["width"]
        self.normed = torch.from_numpy(self.private[0, 4 * rows * width : 8 * rows * width].view(np.float32)).view(rows, width)
        self.output = torch.from_numpy(self._arrays["output"])[:, :width]
        self.attended = torch.from_numpy(self._arrays["queries"]).view(rows, self.heads, self.head_size)

    def job(self, x: np.ndarray, position: int, logits: np.ndarray, slots: Slots | None, captured: list[int]) -> np.ndarray:
        """The record of one pass; `x` and `logits` must outlive it. captured: layers that `shown` is to hold."""
        self.meeting[0] = 0
        self.claims[:] = 0
        self.coded[:] = 0  # those of the last run, whose cache may have kept codes
        self.counts[:] = 0
        self.capture[:] = -1
        self.capture[captured] = np.arange(len(captured))
        self._fill(x=x.ctypes.data, logits=logits.ctypes.data, head_rows=len(logits), position=position, left=-1)
        if slots is not None:
            shown = slots.end + len(x)
            if slots.coded is not None:
                self._take_coded(slots.coded)
                shown += slots.coded.seen[-1]
            self._make_room(shown, len(captured))
            self._take_table(slots.table)
            self._fill(
                mixed=self.mixed.ctypes.data, stats=self.stats.ctypes.data, seen=self.seen.ctypes.data,
                shown=self.shown.ctypes.data, slots=shown, kv_bytes=slots.buffers.keys[0].itemsize,
                capacity=slots.buffers.capacity, slot=slots.first, end=slots.end,
            )  # fmt: skip
        return self.record

    def abandon(self) -> None:
        """End the pass in every thread: one of them has failed, and the others would wait for it."""
        self.meeting[0] = BROKEN

    def _take_coded(self, coded: Coded) -> None:
        nbytes = room_nbytes(coded.blocks.forms[0], self._queries)
        if self.folded.shape[1] < nbytes:
            self.folded = np.empty((self._threads, nbytes), np.uint8)
            self._fill(folded=self.folded.ctypes.data, folded_size=self.folded.shape[1])
        self.coded[:] = coded.seen
        self._fill(stored=coded.stored, exact=coded.exact, blocks=coded.blocks.capacity)

    def _take_table(self, table: Tensor | None) -> None:
        self._table = None if table is None else table.numpy()
        self.starts = np.empty(0, np.int64) if self._table is None else _starts(self._table)
        self._fill(table=0 if self._table is None else self._table.ctypes.data, starts=self.starts.ctypes.data)

    def projected(self, attention: Attention) -> tuple[Tensor, Tensor, Tensor]:
        """q [T, H, D], k and v [T, G, D], or the parts of a latent [T, 1, r], of a layer that attends outside."""
        qkv = torch.from_numpy(self._arrays["qkv"])[:, : attention.qkv.out_features].clone()
        q, kv = torch.tensor_split(qkv, [self.heads * self.head_size], dim=1)
        k, v = attention.parted(kv)
        return q.view(self.rows, self.heads, self.head_size), k, v

    def routed(self, layer: int, used: int) -> np.ndarray:
        """The experts [T, K] that the rows of the last pass have chosen in a layer, highest score first."""
        chosen: np.ndarray = self.chosen[layer, 0, : self.rows * used].reshape(self.rows, used)
        return chosen

    def weights(self, layer: int, used: int, lines: int) -> np.ndarray:
        """Their weights [T, K] float32 in a trained mixture, where each row has so many lines."""
        weights: np.ndarray = self.shares[layer, 0, : self.rows * lines].reshape(self.rows, lines)[:, :used]
        return weights

    def _fill(self, **values: int) -> None:
        for name, value in values.items():
            self.record[name] = value

    def _make_room(self, slots: int, captured: int) -> None:
        """For the chunks of `slots` slots and tokens of blocks, of which one each of blocks, of sinks and of others is partly
        filled."""
        chunks = slots // CHUNK + 4
        if len(self.mixed) < chunks:
            self.mixed, self.stats = (np.empty((2 * chunks, *part.shape[1:]), np.float32) for part in (self.mixed, self.stats))
        if captured:
            self.shown = np.zeros((captured, self.heads, self.rows, slots), np.float16)
            if self.seen.size < self.shown.size:
                self.seen = np.empty(2 * self.shown.size, np.float32)


def _starts(table: np.ndarray) -> np.ndarray:
    """Where each chunk of slots begins in the buffers; −1 where it is in several pieces."""
    starts: np.ndarray = table[::CHUNK].copy()
    breaks = np.flatnonzero(np.diff(table) != 1) + 1
    starts[breaks[breaks % CHUNK > 0] // CHUNK] = -1
    return starts
