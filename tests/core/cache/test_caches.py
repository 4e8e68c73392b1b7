"""Caches against a plain list of tokens, under random passes and rewinds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.cache.base import Cache, Layout
from core.cache.dynamic import Dynamic
from core.cache.off import Off
from core.cache.rolling import Rolling
from core.cache.static import Static
from core.cache.table import RollingOptions, StaticOptions
from core.errors import BadInput, RunFailed
from core.technique import NoOptions

KV_HEADS, SIZE, MOST = (2, 1), 4, 700
LAYOUT = Layout(KV_HEADS, SIZE, MOST, torch.float32)
Step = tuple[str, int]
PASSES = st.integers(1, 40).map(lambda count: ("pass", count))
REWINDS = st.integers(0, 30).map(lambda count: ("trim", count))


def feed(cache: Cache, start: int, count: int) -> list[Any]:
    """A pass of `count` tokens whose keys tell layer, head and position; what each layer may look at."""
    seen = [cache.update(layer, *tokens(layer, start, count)) for layer in range(len(KV_HEADS))]
    cache.advance(count)
    return seen


def tokens(layer: int, start: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """k and v [T, G, D]."""
    positions = torch.arange(start, start + count, dtype=torch.float32)[:, None, None]
    k = positions + 0.1 * torch.arange(KV_HEADS[layer])[None, :, None] + torch.zeros(SIZE) + 1000 * layer
    return k, -k


def check(seen: list[Any], expected: list[int]) -> None:
    """Each layer sees exactly the tokens at positions `expected`, in any order."""
    for layer, kv in enumerate(seen):
        order = kv.positions.argsort()
        assert kv.positions[order].tolist() == expected
        k, v = (torch.cat(parts) for parts in zip(*(tokens(layer, position, 1) for position in expected), strict=True))
        assert torch.equal(kv.keys[:, order], k.transpose(0, 1))
        assert torch.equal(kv.values[:, order], v.transpose(0, 1))


@pytest.mark.parametrize("kind", [lambda: Dynamic(NoOptions(), LAYOUT), lambda: Static(StaticOptions(), LAYOUT)])
@settings(deadline=None, max_examples=40)
@given(steps=st.lists(PASSES | REWINDS, max_size=15))
def test_that_whole_caches_hold_every_token_fed_and_not_taken_back(kind: Any, steps: list[Step]) -> None:
    cache, length = kind(), 0
    for action, count in steps:
        if action == "trim":
            length = max(0, length - count)
            cache.trim(length)
        else:
            check(feed(cache, length, count), list(range(length + count)))
            length += count
        assert cache.length == cache.tokens == length


@settings(deadline=None, max_examples=60)
@given(window=st.integers(1, 50), passes=st.lists(st.integers(1, 40), max_size=15))
def test_that_a_rolling_cache_holds_what_the_first_query_of_a_pass_sees_and_no_more(window: int, passes: list[int]) -> None:
    cache, length = Rolling(RollingOptions(window), LAYOUT), 0
    bytes_before = cache.nbytes
    for count in passes:
        oldest = length - window + (count == 1)  # one token overwrites the one it pushes out; a chunk's first still sees it
        check(feed(cache, length, count), list(range(max(0, oldest), length + count)))
        length += count
        assert (cache.length, cache.tokens, cache.nbytes) == (length, min(length, window), bytes_before)


def test_that_a_rolling_cache_refuses_to_go_back() -> None:
    cache = Rolling(RollingOptions(8), LAYOUT)
    feed(cache, 0, 5)
    cache.trim(5)
    assert not cache.rewindable
    with pytest.raises(RunFailed, match="cannot rewind"):
        cache.trim(3)


def test_that_without_a_cache_a_pass_sees_itself_and_nothing_is_kept() -> None:
    cache = Off(NoOptions(), LAYOUT)
    check(feed(cache, 0, 7), list(range(7)))
    assert (cache.length, cache.tokens, cache.nbytes) == (0, 0, 0)


def test_that_a_full_static_cache_says_what_to_raise() -> None:
    cache = Static(StaticOptions(10), LAYOUT)
    feed(cache, 0, 10)
    with pytest.raises(BadInput, match="holds 10 tokens and the run needs 11"):
        feed(cache, 10, 1)


def test_that_bytes_are_those_of_keys_and_values() -> None:
    assert Static(StaticOptions(), LAYOUT).nbytes == 2 * sum(KV_HEADS) * SIZE * MOST * 4
    growing = Dynamic(NoOptions(), LAYOUT)
    feed(growing, 0, 600)
    assert 2 * sum(KV_HEADS) * SIZE * 600 * 4 <= growing.nbytes <= 2 * sum(KV_HEADS) * SIZE * 1200 * 4
