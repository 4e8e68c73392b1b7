"""Attention patterns against a plain implementation: one query at a time, in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from attending import CHUNKS, HEADS, KV_HEADS, SCALE, SIZE, TOKENS, attended, context_of, draws, site

from core.attention.mask import FULL, Reach
from core.attention.mechanism import mechanisms
from core.attention.patterns import plan_of, plans
from core.cache.base import Layout
from core.cache.off import Off
from core.config import RunConfig
from core.technique import NoOptions
from tests.traces import INFO

pytestmark = pytest.mark.usefixtures("one_thread")
Sees = Callable[[int, int], bool]

PATTERNS: list[tuple[str, Sees]] = [
    ("attention.name=full", lambda query, key: key <= query),
    ("attention.name=window attention.window=5", lambda query, key: query - 5 < key <= query),
    ("attention.name=window attention.window=100", lambda query, key: key <= query),
    (
        "attention.name=sink_window attention.sinks=3 attention.window=6",
        lambda query, key: key <= query and (key < 3 or key > query - 6),
    ),
    ("attention.name=sink_window attention.sinks=0 attention.window=6", lambda query, key: query - 6 < key <= query),
]


def plainly(sees: Sees, cap: float) -> torch.Tensor:
    q, k, v = draws()
    y = torch.zeros_like(q)
    for query in range(TOKENS):
        keys = [key for key in range(TOKENS) if sees(query, key)]
        for head in range(HEADS):
            group = head // (HEADS // KV_HEADS)
            scores = torch.stack([q[query, head].dot(k[key, group]) * SCALE for key in keys])
            scores = cap * torch.tanh(scores / cap) if cap else scores
            weights = scores.exp() / scores.exp().sum()
            y[query, head] = sum(weight * v[key, group] for weight, key in zip(weights, keys, strict=True))
    return y


@pytest.mark.parametrize("cap", [0.0, 0.7])
@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize(("settings", "sees"), PATTERNS, ids=[settings for settings, _ in PATTERNS])
def test_that_a_pattern_is_what_it_says(settings: str, sees: Sees, chunks: list[int], cap: float) -> None:
    found = attended(context_of(settings, site(cap)), chunks)
    assert (found - plainly(sees, cap)).abs().max() < 1e-4


def test_that_a_layer_keeps_its_own_window() -> None:
    found = attended(context_of("attention.name=sink_window attention.sinks=3 attention.window=6", site(window=9)), [TOKENS])
    expected = plainly(lambda query, key: query - 9 < key <= query and (key < 3 or key > query - 6), 0.0)
    assert (found - expected).abs().max() < 1e-4


def test_that_without_a_cache_the_whole_sequence_gives_the_same() -> None:
    cache = Off(NoOptions(), Layout((KV_HEADS,), SIZE, TOKENS, torch.float32))
    found = attended(context_of("attention.name=full", site(), cache), [TOKENS])
    assert (found - plainly(PATTERNS[0][1], 0.0)).abs().max() < 1e-4


def test_that_layers_left_out_see_what_they_were_trained_to() -> None:
    config = RunConfig().set(["attention.name=window", "attention.window=5", "attention.layers=last:2"])
    info = replace(INFO, layers=4, sliding_windows=(3, 0, 3, 9))
    sites = [replace(site(), layer=layer, window=info.sliding_windows[layer] or None) for layer in range(4)]
    expected = (Reach(0, 3), FULL, Reach(0, 3), Reach(0, 5))
    assert tuple(plan.surely for plan in plans(config, info)) == expected
    assert tuple(mechanism.reach for mechanism in mechanisms(config.attention, sites)) == expected
    assert plan_of(config.attention).surely == Reach(0, 5), "without a model, the pattern where it applies"


REACHES = [FULL, Reach(0, 3), Reach(0, 12), Reach(2, 3), Reach(2, 12), Reach(5, 8)]


@pytest.mark.parametrize("one", REACHES)
@pytest.mark.parametrize("other", [FULL, Reach(0, 4), Reach(0, 10)])
def test_that_an_intersection_lets_through_what_both_do(one: Reach, other: Reach) -> None:
    positions = torch.arange(30)
    both = one.allowed(positions, positions) & other.allowed(positions, positions)
    for joined in (one & other, other & one):
        assert torch.equal(joined.allowed(positions, positions), both)
