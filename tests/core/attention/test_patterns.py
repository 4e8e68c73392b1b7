"""Sparse patterns against a plain implementation, over several caches, and how much of the cache they touch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from attending import CHUNKS, HEADS, KV_HEADS, SIZE, TOKENS, attended, context_of, site
from plainly import plainly

from core.attention import gathered
from core.attention.bigbird import BigBird
from core.attention.gathered import Pick, picked
from core.attention.mask import Part, Reach
from core.attention.patterns import plan_of
from core.cache.base import KeyValues, Layout
from core.cache.off import Off
from core.cache.rolling import Rolling
from core.cache.table import RollingOptions
from core.config import RunConfig
from core.technique import NoOptions

pytestmark = pytest.mark.usefixtures("one_thread")
Sees = Callable[[int, int], bool]


def _in_bigbird(query: int, key: int) -> bool:
    return query // 4 - key // 4 < 2 or key < 4


PATTERNS: dict[str, Sees] = {
    "dilated attention.window=4 attention.dilation=3": lambda q, k: k in (q, q - 3, q - 6, q - 9),
    "dilated attention.window=50 attention.dilation=1": lambda *_: True,
    "strided attention.window=5 attention.stride=4": lambda q, k: k > q - 5 or (q - k) % 4 == 0,
    "strided attention.window=2 attention.stride=7": lambda q, k: k in (q - 1, *range(q, -1, -7)),
    "local_global attention.window=3 attention.globals=2 attention.every=9": lambda q, k: (
        k > q - 3 or k in (0, 1, 9, 18, 27, 36)
    ),
    "local_global attention.window=3 attention.globals=0 attention.every=0": lambda q, k: k > q - 3,
    "bigbird attention.block=4 attention.window_blocks=2 attention.random_blocks=0": _in_bigbird,
}


def _drawn(settings: str, tokens: int = TOKENS) -> np.ndarray:
    """The mask [G, T, S] as charts draw it."""
    plan = plan_of(RunConfig().set([f"attention.name={settings.split()[0]}", *settings.split()[1:]]).attention, KV_HEADS)
    mask: np.ndarray = plan.surely.allowed(np.arange(tokens), np.arange(tokens))
    return np.broadcast_to(mask, (KV_HEADS, tokens, tokens))


@pytest.mark.parametrize("settings", PATTERNS)
def test_that_a_drawn_pattern_is_what_it_says(settings: str) -> None:
    expected = [[key <= query and PATTERNS[settings](query, key) for key in range(TOKENS)] for query in range(TOKENS)]
    assert (_drawn(settings) == np.array(expected)).all()


@pytest.mark.parametrize("cap", [0.0, 0.7])
@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("settings", PATTERNS)
def test_that_attention_over_gathered_keys_is_attention_over_the_pattern(settings: str, chunks: list[int], cap: float) -> None:
    found = attended(context_of(f"attention.name={settings}", site(cap)), chunks)
    assert (found - plainly(lambda _, query, key: PATTERNS[settings](query, key), cap)).abs().max() < 1e-4


RANDOM = "bigbird attention.block=3 attention.window_blocks=1 attention.global_blocks=1 attention.random_blocks=2"


@pytest.mark.parametrize("rows", [64, 5])
@pytest.mark.parametrize("chunks", [*CHUNKS.values(), [30, 4, 3]])
@pytest.mark.parametrize("settings", [*PATTERNS, RANDOM])
def test_that_masks_drawn_are_masks_used(settings: str, chunks: list[int], rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathered, "ROWS", rows)
    mask = _drawn(settings)
    expected = plainly(lambda head, query, key: bool(mask[head // (HEADS // KV_HEADS), query, key]))
    assert (attended(context_of(f"attention.name={settings}", site()), chunks) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("settings", [*PATTERNS, RANDOM])
def test_that_patterns_hold_within_a_rolling_cache_and_a_sliding_layer(settings: str, chunks: list[int]) -> None:
    mask = _drawn(settings)
    cache = Rolling(RollingOptions(11), Layout((KV_HEADS,), SIZE, TOKENS, torch.float32))
    found = attended(context_of(f"attention.name={settings}", site(window=13), cache), chunks)
    expected = plainly(lambda head, query, key: key > query - 11 and bool(mask[head // (HEADS // KV_HEADS), query, key]))
    assert (found - expected).abs().max() < 1e-4
    sliding = attended(context_of(f"attention.name={settings}", site(window=6)), chunks)
    expected = plainly(lambda head, query, key: key > query - 6 and bool(mask[head // (HEADS // KV_HEADS), query, key]))
    assert (sliding - expected).abs().max() < 1e-4


def test_that_without_a_cache_a_pattern_is_the_same() -> None:
    cache = Off(NoOptions(), Layout((KV_HEADS,), SIZE, TOKENS, torch.float32))
    mask = _drawn(RANDOM)
    found = attended(context_of(f"attention.name={RANDOM}", site(), cache), [TOKENS])
    assert (found - plainly(lambda head, query, key: bool(mask[head // (HEADS // KV_HEADS), query, key]))).abs().max() < 1e-4


def test_that_random_blocks_are_drawn_without_putting_back_and_differ() -> None:
    pattern, positions = BigBird(4, 2, 1, 3, seed=5, heads=3), np.arange(4 * 60)
    mask = pattern.allowed(positions, positions)
    blocks = mask.reshape(3, 60, 4, 60, 4)[:, :, 3].any(-1)  # [G, block of queries, block of keys], of its last query
    random = blocks & ~BigBird(4, 2, 1).allowed(positions, positions).reshape(60, 4, 60, 4)[:, 3].any(-1)
    assert (random.sum(-1) == np.clip(np.arange(60) - 2, 0, 3)).all(), "as many as there are, up to three"
    assert (random[0] != random[1]).any()
    assert (random[0] != random[2]).any()
    assert (BigBird(4, 2, 1, 3, seed=6, heads=3).allowed(positions, positions) != mask).any()
    assert (pattern.allowed(positions[40:44], positions[:90]) == mask[:, 40:44, :90]).all(), "for any length the same"


def test_that_random_blocks_are_spread_evenly() -> None:
    queries = np.arange(12) * 4 + 40 * 4
    counts = sum(
        BigBird(4, 1, 0, 2, seed=seed, heads=4).allowed(queries[:1], np.arange(160))[:, 0].reshape(4, 40, 4)[..., 0].sum(0)
        for seed in range(500)
    )
    expected = 500 * 4 * 2 / 40
    assert np.abs(counts - expected).max() < 5 * expected**0.5


def _touched(picks: list[Pick]) -> int:
    """Rows of keys that are gathered, over all picks and KV heads."""
    return sum(one.slots.numel() * (KV_HEADS if one.slots.ndim == 1 else 1) for one in picks if one.slots is not None)


LONG = 2048
PARTS = {
    "dilated attention.window=64 attention.dilation=8": 0.2,
    "strided attention.window=64 attention.stride=64": 0.3,
    "local_global attention.window=64 attention.every=64": 0.2,
    "bigbird attention.block=32 attention.window_blocks=2": 0.25,
}


@pytest.mark.parametrize("settings", PARTS)
def test_that_work_falls_with_the_mask(settings: str) -> None:
    plan = plan_of(RunConfig().set([f"attention.name={settings.split()[0]}", *settings.split()[1:]]).attention, KV_HEADS)
    positions, last = torch.arange(LONG), torch.tensor([LONG - 1])
    kv = KeyValues(torch.zeros(KV_HEADS, LONG, SIZE), torch.zeros(KV_HEADS, LONG, SIZE), positions)
    seen = int(np.broadcast_to(plan.surely.allowed(last, positions), (KV_HEADS, 1, LONG)).sum())
    assert _touched(list(picked(Part(plan.surely), Reach(), last, kv))) == seen, "one row reads what it sees"
    many = sum(_touched(list(picked(part, Reach(), positions, kv))) for part in plan.surely.parts)  # type: ignore[attr-defined]
    whole = KV_HEADS * sum(min(first + gathered.ROWS, LONG) for first in range(0, LONG, gathered.ROWS))
    assert many < PARTS[settings] * whole, "64 rows read what any of them sees"


@pytest.mark.parametrize("settings", [RANDOM, "strided attention.window=2 attention.stride=5"])
def test_that_a_rejected_draft_leaves_no_trace(settings: str) -> None:
    context = context_of(f"attention.name={settings}", site())
    once = attended(context, [30, 5])
    context.trim(31)
    again = context_of(f"attention.name={settings}", site())
    assert (attended(again, [35]) - once).abs().max() < 1e-5
