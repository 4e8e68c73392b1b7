"""Positions inside a sinks cache against a plain computation, row by row."""

from __future__ import annotations

import pytest
import torch
from attending import CHUNKS, HEADS, KV_HEADS, SCALE, SIZE, TOKENS, attended, draws, site

from core.attention.context import Context
from core.attention.softmax import Softmax
from core.cache.base import Layout
from core.cache.sinks import Sinks
from core.cache.table import SinksOptions
from core.decoder.probe import Probe
from core.decoder.rope import RopeTable
from core.decoder.traits import Rope

pytestmark = pytest.mark.usefixtures("one_thread")


def rope_table(size: int = SIZE, kind: str = "default", **scaling: float) -> RopeTable:
    table = RopeTable(Rope(100.0, size, kind, tuple(sorted(scaling.items()))))
    table.reserve(64, 64)
    return table


class Rotated(Softmax):
    """Softmax attention of queries and keys that are rotated first, as the decoder does."""

    def __init__(self, rope: RopeTable | None) -> None:
        super().__init__(site())
        self.rope = rope

    def attend(self, q, k, v, store, rows):  # type: ignore[no-untyped-def]
        if self.rope is not None:
            q, k = self.rope.rotate(q, rows.positions), self.rope.rotate(k, rows.positions)
        return super().attend(q, k, v, store, rows)


def plain(sinks: int, window: int, rope: RopeTable | None) -> torch.Tensor:
    """y [T, H, D]: each query in a text of only the tokens that it sees, rotated by their places in that text."""
    q, k, v = draws()
    found = torch.empty(TOKENS, HEADS, SIZE)
    for p in range(TOKENS):
        held = sorted({*range(min(sinks, p + 1)), *range(max(0, p + 1 - window), p + 1)})
        places = torch.arange(len(held))
        keys, query = k[held], q[p : p + 1]
        if rope is not None:
            keys, query = rope.rotate(keys, places), rope.rotate(query, places[-1:])
        for head in range(HEADS):
            group = head // (HEADS // KV_HEADS)
            weights = (keys[:, group] @ query[0, head] * SCALE).softmax(0)
            found[p, head] = weights @ v[held, group]
    return found


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize(("sinks", "window"), [(4, 8), (1, 16), (3, 1), (2, 64), (0, 8)])
@pytest.mark.parametrize("rope", [rope_table(), rope_table(4), None], ids=["whole", "partial", "none"])
def test_that_sinks_are_seen_at_their_places_inside_the_cache(
    chunks: list[int], sinks: int, window: int, rope: RopeTable | None
) -> None:
    layout = Layout((KV_HEADS,), SIZE, TOKENS, torch.float32, ropes=(rope,))
    context = Context(Sinks(SinksOptions(sinks, window), layout), [Rotated(rope)])
    assert (attended(context, chunks) - plain(sinks, window, rope)).abs().max() < 1e-4


def test_that_gains_of_stretched_rotations_are_taken_once() -> None:
    table = rope_table(kind="yarn", factor=4.0, original_max_position_embeddings=16, attention_factor=1.5)
    assert table.cos[0, 0] == 1.5
    x = draws()[0]
    there = table.turned(table.rotate(x, torch.arange(TOKENS)), torch.full((TOKENS,), -3))
    assert torch.allclose(there[3:], table.rotate(x[3:], torch.arange(TOKENS - 3)), atol=1e-5)


def test_that_captured_weights_of_sinks_stand_at_their_positions_in_the_text() -> None:
    rope, probe = rope_table(), Probe([0])
    layout = Layout((KV_HEADS,), SIZE, TOKENS, torch.float32, ropes=(rope,))
    context = Context(Sinks(SinksOptions(2, 5), layout), [Rotated(rope)])
    attended(context, [30, 7], probe)
    weights, positions, _ = probe.take_attention()[0]
    assert weights.shape == (HEADS, 7, len(positions))
    assert set(positions[weights[0, -1] > 0]) == {0, 1, *range(TOKENS - 5, TOKENS)}
    assert abs(weights.sum(-1) - 1).max() < 1e-2
