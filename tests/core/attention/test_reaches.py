"""Attention patterns against a plain implementation: one query at a time, in words."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from core.attention.mask import FULL, Reach, reaches
from core.attention.softmax import Masks, attend
from core.cache.base import Cache, Layout
from core.cache.dynamic import Dynamic
from core.cache.off import Off
from core.config import RunConfig
from core.technique import NoOptions

pytestmark = pytest.mark.usefixtures("one_thread")
TOKENS, HEADS, KV_HEADS, SIZE, SCALE = 37, 6, 2, 8, 0.3
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


def reach_of(settings: str) -> Reach:
    config = RunConfig().set(settings.split())
    return reaches(config.attention, 1)[0]


def draws() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q [T, H, D], k and v [T, G, D]."""
    generator = torch.Generator().manual_seed(1)
    shapes = (TOKENS, HEADS, SIZE), (TOKENS, KV_HEADS, SIZE), (TOKENS, KV_HEADS, SIZE)
    q, k, v = (torch.randn(shape, generator=generator) for shape in shapes)
    return q, k, v


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
@pytest.mark.parametrize("chunks", [[TOKENS], [16, 16, 5], [20, *[1] * 17]], ids=["prefill", "chunked", "decode"])
@pytest.mark.parametrize(("settings", "sees"), PATTERNS, ids=[settings for settings, _ in PATTERNS])
def test_that_a_pattern_is_what_it_says(settings: str, sees: Sees, chunks: list[int], cap: float) -> None:
    cache: Cache = Dynamic(NoOptions(), Layout((KV_HEADS,), SIZE, TOKENS, torch.float32))
    found = []
    for q, k, v in zip(*(part.split(chunks) for part in draws()), strict=True):
        masks = Masks(torch.arange(cache.length, cache.length + len(q)))
        found.append(attend(q, cache.update(0, k, v), masks, reach_of(settings), SCALE, cap))
        cache.advance(len(q))
    assert (torch.cat(found) - plainly(sees, cap)).abs().max() < 1e-4


def test_that_without_a_cache_the_whole_sequence_gives_the_same() -> None:
    q, k, v = draws()
    cache = Off(NoOptions(), Layout((KV_HEADS,), SIZE, TOKENS, torch.float32))
    y = attend(q, cache.update(0, k, v), Masks(torch.arange(TOKENS)), FULL, SCALE, 0.0)
    assert (y - plainly(PATTERNS[0][1], 0.0)).abs().max() < 1e-4


def test_that_layers_left_out_see_everything() -> None:
    config = RunConfig().set(["attention.name=window", "attention.window=5", "attention.layers=last:2"])
    assert reaches(config.attention, 4) == (FULL, FULL, Reach(0, 5), Reach(0, 5))


REACHES = [FULL, Reach(0, 3), Reach(0, 12), Reach(2, 3), Reach(2, 12), Reach(5, 8)]


@pytest.mark.parametrize("one", REACHES)
@pytest.mark.parametrize("other", [FULL, Reach(0, 4), Reach(0, 10)])
def test_that_an_intersection_lets_through_what_both_do(one: Reach, other: Reach) -> None:
    positions = torch.arange(30)
    both = one.allowed(positions, positions) & other.allowed(positions, positions)
    for joined in (one & other, other & one):
        assert torch.equal(joined.allowed(positions, positions), both)
