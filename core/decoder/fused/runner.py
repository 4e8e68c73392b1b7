"""Passes of a few rows through the compiled step, which comes back to Python for what only torch computes."""

from __future__ import annotations

import os
from collections.abc import Hashable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from core.attention.context import Context
from core.attention.mask import Pattern, Reach
from core.attention.mechanism import Blocks, Buckets, Highest, Rows
from core.cache.base import Buffers, Coded, Slots
from core.cache.coded import CodedBlocks
from core.compiled.crew import crew
from core.decoder.fused.form import Seen, inside_of
from core.decoder.fused.lists import Choices, Listed, Lists, Memory, Ranks
from core.decoder.fused.records import NO_WINDOW, PHASES
from core.decoder.fused.room import Room
from core.decoder.fused.step import step
from core.decoder.fused.table import Table, table_of
from core.decoder.model import Decoder
from core.decoder.probe import Probe
from core.decoder.threads import one_thread

_ALONE = 1 << 22  # bytes


@dataclass
class _Run:
    """What stays from pass to pass of one run: its cache's buffers in the model's tables. stops: see `PASS.left`.

    listing: the layers that attend to listed slots; lists: those of the last pass.
    """

    inside: tuple[Seen | None, ...]  # of each layer that attends in compiled code, over these buffers
    places: tuple[list[Tensor] | None, ...]  # of keys and of coded blocks, which a cache replaces when it moves them
    tables: tuple[int, ...]  # addresses of cosines
    model: np.ndarray
    layers: np.ndarray
    stops: tuple[int, ...]
    listing: tuple[tuple[int, Seen], ...]
    lists: list[Listed] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)


class Fused:
    """The compiled step bound to one decoder. `of` gives None where the decoder has no fused form."""

    def __init__(self, decoder: Decoder, table: Table) -> None:
        self.decoder, self.table = decoder, table
        self.crew = crew(torch.get_num_threads())
        self._runs: WeakKeyDictionary[Context, _Run] = WeakKeyDictionary()
        self._rooms: dict[int, Room] = {}

    @classmethod
    def of(cls, decoder: Decoder) -> Fused | None:
        table = table_of(decoder)
        return None if table is None else cls(decoder, table)

    def forward(self, tokens: Tensor, context: Context, probe: Probe, wanted: int) -> Tensor:
        """Logits [wanted, V] float32 of the last of `tokens` [T], which follow those of `context`."""
        probe.start()
        x = self.decoder.embedded(tokens, context, probe).numpy()
        inside, slots = inside_of(context, len(tokens), probe)
        run, room = self._run(context, inside, slots), self._room(len(tokens))
        logits = np.empty((wanted, int(self.table.model["logits_width"][0])), np.float32)
        run.lists = _lists(run, context.length, room, None if slots is None else slots.table)
        captured = sorted(layer for layer in probe.attention_layers if inside[layer] is not None)
        job = room.job(x, context.length, logits, slots, captured)
        self._pass(run, room, job, context, context.rows(len(tokens), probe))
        if slots is not None and captured:
            _hand_over(probe, captured, room, slots)
        if probe.routing:
            self._tell_routes(probe, room)
        for layer, _ in run.listing:
            if slots is not None:
                context.mechanisms[layer].follow(slots.buffers.keys[layer], context.length)
        context.advance(len(tokens))
        return self.decoder.finished(torch.from_numpy(logits)[:, : self.decoder.head.out_features])

    def alike(self, context: Context, rows: int, probe: Probe) -> bool:
        """Whether a pass of so many rows leaves nothing to torch, and so computes each row as it would alone."""
        inside, slots = inside_of(context, rows, probe)
        return slots is not None and None not in inside and not self.table.layers["feeds_outside"].any()

    def _pass(self, run: _Run, room: Room, job: np.ndarray, context: Context, rows: Rows) -> None:
        """Thread 0 comes back wherever a layer is computed outside; the time inside is shared among phases by its clock."""
        model, address, seconds = run.model.ctypes.data, job.ctypes.data, 0.0

        def walk() -> None:
            nonlocal seconds
            began = perf_counter()
            step(0, model, address)
            seconds += perf_counter() - began

        def lead() -> None:
            walk()
            for stop in run.stops:
                self._outside(stop, room, context, rows)
                walk()

        self.crew.run(lambda thread: step(thread, model, address) if thread else lead(), room.abandon)
        spent = room.counts[0, : len(PHASES)].tolist()
        for phase, count in zip(PHASES, spent, strict=True):
            rows.probe.add(phase, seconds * count / (sum(spent) or 1))
        rows.probe.start()

    def _outside(self, stop: int, room: Room, context: Context, rows: Rows) -> None:
        """What torch computes of a layer, charged to its phase."""
        layer, feeds = divmod(stop, 2)
        block = self.decoder.blocks[layer]
        rows.probe.start()
        with _threads_for(block.ffn.active_nbytes if feeds else context.cache.layout.layer_nbytes(layer) * context.length):
            if feeds:
                room.output.copy_(block.ffn(room.normed, layer, rows.probe))
            else:
                room.attended.copy_(context.attend(layer, *room.projected(block.attention), rows))
        rows.probe.lap("ffn" if feeds else "attention")

    def _tell_routes(self, probe: Probe, room: Room) -> None:
        """What the layers of experts have chosen; in a split block each expert that a row uses counts whole."""
        for layer, record in enumerate(self.table.layers):
            if record["experts"]:
                used = int(record["used"])
                chosen = room.routed(layer, used).astype(np.int16)
                weights = (
                    room.weights(layer, used, used + bool(record["per_shared"])) if record["mixes"] else np.ones(chosen.shape)
                )
                probe.route(layer, chosen, weights.astype(np.float16), int(record["experts"]))
        probe.lap("capture")

    def _room(self, rows: int) -> Room:
        if rows not in self._rooms:
            self._rooms[rows] = Room(self.table, rows, self.crew.threads)
        return self._rooms[rows]

    def _run(self, context: Context, inside: tuple[Seen | None, ...], slots: Slots | None) -> _Run:
        """Made once for a run, and again when its buffers or the tables of rotations grow."""
        run, tables = self._runs.get(context), tuple(rope.cos.data_ptr() for rope in self.decoder.ropes)
        buffers = None if slots is None else slots.buffers
        blocks = None if slots is None or slots.coded is None else slots.coded.blocks
        places = None if buffers is None else buffers.keys, None if blocks is None else blocks.records
        if run is None or (run.inside, run.tables) != (inside, tables) or not _same(run.places, places):
            layers = self._layers(inside, buffers, blocks)
            dtype = torch.float32 if buffers is None else buffers.keys[0].dtype
            model = self.table.for_cache(dtype, None if blocks is None else blocks.forms[0])
            model["layers"] = layers.ctypes.data
            outside = np.stack([layers["attends_outside"], layers["feeds_outside"]], axis=1)
            stops = tuple(np.flatnonzero(outside).tolist())
            listing = tuple((index, seen) for index, seen in enumerate(inside) if seen and not isinstance(seen, Reach))
            run = self._runs[context] = _Run(inside, places, tables, model, layers, stops, listing)
        return run

    def _layers(self, inside: tuple[Seen | None, ...], buffers: Buffers | None, blocks: CodedBlocks | None) -> np.ndarray:
        layers, dtype = self.table.layers.copy(), torch.float32 if buffers is None else buffers.keys[0].dtype
        for index, (block, reach) in enumerate(zip(self.decoder.blocks, inside, strict=True)):
            layers["attends_outside"][index] = reach is None
            layers["latent"][index] = self.table.latents(dtype).address(index)
            if reach is not None and buffers is not None:
                layers["keys"][index], layers["values"][index] = buffers.addresses(index)
                if isinstance(reach, Reach):
                    layers["sinks"][index] = reach.sinks
                    layers["window"][index] = NO_WINDOW if reach.window is None else reach.window
                _tell_choice(layers[index], reach)
                layers["records"][index] = 0 if blocks is None else blocks.records[index].data_ptr()
            if block.attention.rope is not None:
                layers["cos"][index] = block.attention.rope.cos.data_ptr()
                layers["sin"][index] = block.attention.rope.sin.data_ptr()
        return layers


def _tell_choice(layer: np.ndarray, seen: Seen) -> None:
    """What rows choose by, where they choose."""
    if isinstance(seen, Highest):
        layer["highest"] = seen.best
    if isinstance(seen, Blocks):
        layer["summaries"], layer["summary_room"] = seen.summaries.data_ptr(), seen.summaries.shape[1]
        layer["block"], layer["best"], layer["bounds"] = seen.block, seen.best, seen.bounds
        layer["first_blocks"], layer["local_blocks"] = seen.first, seen.local
    if isinstance(seen, Buckets):
        rounds, _, layer["bucket_room"] = seen.of_keys.shape
        layer["rounds"], layer["axes"], layer["nearest"] = rounds, seen.rotations.shape[1] // rounds, seen.window
        layer["rotations"], layer["buckets"] = seen.rotations.data_ptr(), seen.of_keys.data_ptr()


def _lists(run: _Run, first: int, room: Room, table: Tensor | None) -> list[Listed]:
    """Tell the layers that attend to listed slots where their lists are, one for all that see the same; keep what is given.

    table: as in `Slots`.
    """
    made: dict[Hashable, Listed] = {}
    for index, seen in run.listing:
        kv_heads = int(run.layers["kv_heads"][index])
        alike: Hashable = seen if isinstance(seen, Pattern | Highest) else type(seen), kv_heads
        if alike not in made:
            made[alike] = _listed(seen, first, room, kv_heads, run.memory, table)
        lists, layer = made[alike], run.layers[index]
        layer["listed"], layer["lists"], layer["score_room"] = lists.table.ctypes.data, lists.table.shape[1], lists.room
    return list(made.values())


def _listed(seen: Seen, first: int, room: Room, kv_heads: int, memory: Memory, table: Tensor | None) -> Listed:
    """Of a layer in which rows from position `first` on see this."""
    if isinstance(seen, Pattern):
        return Lists(seen, first, room.rows, kv_heads, None if table is None else table.numpy())
    if isinstance(seen, Highest):
        return Ranks(seen.best, first, room.rows, room.heads, kv_heads, memory)
    return Choices(first + room.rows, room.rows, kv_heads if isinstance(seen, Blocks) else room.heads, memory)


def _same(places: tuple[list[Tensor] | None, ...], others: tuple[list[Tensor] | None, ...]) -> bool:
    return all(one is other for one, other in zip(places, others, strict=True))


def _threads_for(nbytes: int) -> AbstractContextManager[None]:
    """One thread of torch where so few bytes are read that waking others takes longer, most of all on a busy machine."""
    return one_thread() if nbytes < _ALONE else nullcontext()


def _hand_over(probe: Probe, layers: list[int], room: Room, slots: Slots) -> None:
    positions = slots.positions.numpy().astype(np.int32)
    for layer, weights in zip(layers, room.shown, strict=True):
        probe.attention(layer, *_once(weights, positions, slots.coded))
    probe.lap("capture")


def _once(weights: np.ndarray, positions: np.ndarray, coded: Coded | None) -> tuple[np.ndarray, np.ndarray]:
    """Weights [H, T, S] float16 and positions, those of tokens that are there as codes and exact added up."""
    if coded is None or coded.seen[-1] == coded.stored:
        return weights, positions
    whole, codes = np.zeros((*weights.shape[:2], positions.max() + 1), np.float32), coded.seen[-1]
    for part in (slice(codes), slice(codes, None)):  # neither has a position twice
        whole[:, :, positions[part]] += weights[:, :, part]
    return whole.astype(np.float16), np.arange(whole.shape[2], dtype=np.int32)


def enabled() -> bool:
    """The compiled step can be turned off, to compare it with plain torch."""
    return os.environ.get("INFERENCE_PLAYGROUND_FUSED", "1") != "0"
