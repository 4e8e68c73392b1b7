"""Every cache under random passes, rewinds and branches, against a cache that was only ever fed what is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.cache.base import Cache, KeyValues, Layout
from core.cache.dynamic import Dynamic
from core.cache.h2o import H2O
from core.cache.offloaded import Offloaded
from core.cache.paged import Paged
from core.cache.quantized import Quantized
from core.cache.rolling import Rolling
from core.cache.sinks import Sinks
from core.cache.snapkv import SnapKV
from core.cache.static import Static
from core.cache.table import (
    H2OOptions,
    PagedOptions,
    QuantizedOptions,
    RollingOptions,
    SinksOptions,
    SnapKVOptions,
    StaticOptions,
)
from core.decoder.rope import RopeTable
from core.decoder.traits import Rope
from core.errors import RunFailed
from core.technique import NoOptions

pytestmark = pytest.mark.usefixtures("one_thread")
KV_HEADS, SIZE, MOST, SHARED = (2, 0, 1), 4, 400, 2
ROPE = RopeTable(Rope(100.0, SIZE))
ROPE.reserve(MOST, MOST)
LAYOUT = Layout(KV_HEADS, SIZE, MOST, torch.float32, ropes=(ROPE, ROPE, None))
LAYERS = [layer for layer, heads in enumerate(KV_HEADS) if heads]
CACHES: dict[str, Callable[[], Cache]] = {
    "dynamic": lambda: Dynamic(NoOptions(), LAYOUT),
    "static": lambda: Static(StaticOptions(), LAYOUT),
    "rolling": lambda: Rolling(RollingOptions(9), LAYOUT),
    "sinks": lambda: Sinks(SinksOptions(2, 9), LAYOUT),
    "paged": lambda: Paged(PagedOptions(4), LAYOUT),
    "offloaded": lambda: Offloaded(NoOptions(), LAYOUT),
    "quantized": lambda: Quantized(QuantizedOptions(4, 4, 3, 1), LAYOUT),
    "h2o": lambda: H2O(H2OOptions(12, 4), LAYOUT),
    "snapkv": lambda: SnapKV(SnapKVOptions(8, 3, 3), LAYOUT),
}
Step = tuple[str, int]
STEPS = st.lists(
    st.one_of(
        st.integers(1, 24).map(lambda count: ("pass", count)),
        st.integers(1, 24).map(lambda count: ("trim", count)),
        st.integers(1, 5).map(lambda count: ("fork", count)),
    ),
    max_size=10,
)


def tokens(layer: int, ids: list[int], first: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q [T, H, D], k and v [T, G, D] that tell layer, token and position."""
    parts = []
    for place, token in enumerate(ids):
        generator = torch.Generator().manual_seed(token * 10_007 + (first + place) * 31 + layer)
        parts.append(torch.randn(2 * SHARED + 4, SIZE, generator=generator))
    drawn, heads = torch.stack(parts), KV_HEADS[layer]
    return drawn[:, : SHARED * heads], drawn[:, -4 : heads - 4], drawn[:, -heads:]


def weigh(q: torch.Tensor, kv: KeyValues, positions: torch.Tensor) -> torch.Tensor:
    seen = _seen(kv, positions)  # [G, T, S]
    scores = q.transpose(0, 1) @ kv.keys.repeat_interleave(SHARED, 0).transpose(1, 2)
    return scores.masked_fill(~seen.repeat_interleave(SHARED, 0), -torch.inf).softmax(-1)


def _seen(kv: KeyValues, positions: torch.Tensor) -> torch.Tensor:
    keys = kv.positions.expand(len(kv.keys), -1)
    seen = keys[:, None] <= positions[None, :, None]
    return seen if kv.versions is None else seen & kv.versions.allowed(positions)


def feed(cache: Cache, ids: list[int]) -> list[Any]:
    """A pass of `ids`; for each layer and KV head what the last row sees: position to key and value."""
    found: list[Any] = []
    for layer in LAYERS:
        q, k, v = tokens(layer, ids, cache.length)
        at = torch.arange(cache.length, cache.length + len(ids))
        for part in cache.parts(len(ids)):
            kv = cache.update(layer, k[part], v[part])
            cache.observe(layer, q[part], kv, at[part], weigh)
        seen = _seen(kv, at[-1:])[:, 0] & cache.reach.allowed(at[-1:], kv.positions.flatten()).view(-1, kv.positions.shape[-1])
        keys = kv.positions.expand(len(kv.keys), -1)
        for head in range(len(kv.keys)):
            order = seen[head].nonzero()[:, 0]
            order = order[keys[head][order].argsort()]
            found.append((keys[head][order], kv.keys[head][order], kv.values[head][order]))
    cache.advance(len(ids))
    cache.note([*range(cache.length)])
    return found


def same(mine: list[Any], other: list[Any]) -> None:
    for one, two in zip(mine, other, strict=True):
        assert one[0].tolist() == two[0].tolist()
        width = min(one[1].shape[-1], two[1].shape[-1])
        assert torch.allclose(one[1][:, -width:], two[1][:, -width:], atol=1e-5)
        assert torch.equal(one[2], two[2])


@pytest.mark.parametrize("kind", CACHES)
@settings(deadline=None, max_examples=25)
@given(steps=STEPS)
def test_that_only_what_was_fed_and_not_taken_back_decides_what_is_seen(kind: str, steps: list[Step]) -> None:
    cache, held = CACHES[kind](), list[int]()
    forks: list[tuple[Cache, list[int]]] = []
    for number, (action, count) in enumerate(steps):
        if action == "pass":
            new = [number * 100 + place for place in range(count)]
            feed(cache, new)
            held += new
        elif action == "fork":
            forks.append((cache.fork(), list(held)))
        elif cache.rewindable:
            length = max(0, len(held) - count)
            try:
                cache.trim(length)
            except RunFailed:
                assert kind == "quantized"
                continue
            del held[length:]
        assert cache.length == len(held)
    for branch, kept in [*forks, (cache, held)]:
        fresh = CACHES[kind]()
        for start in range(0, len(kept), 7):
            feed(fresh, kept[start : start + 7])
        same(feed(branch, [7]), feed(fresh, [7]))
        same(feed(branch, [8, 9]), feed(fresh, [8, 9]))
        assert branch.tokens == fresh.tokens


@pytest.mark.parametrize("kind", [kind for kind, make in CACHES.items() if make().rewindable])
@settings(deadline=None, max_examples=25)
@given(passes=st.lists(st.integers(1, 30), min_size=1, max_size=6), back=st.integers(0, 29))
def test_that_all_rows_but_the_first_of_the_last_pass_can_be_taken_back(kind: str, passes: list[int], back: int) -> None:
    cache = CACHES[kind]()
    for number, count in enumerate(passes):
        feed(cache, [number] * count)
    cache.trim(cache.length - min(back, passes[-1] - 1))
    assert cache.length == sum(passes) - min(back, passes[-1] - 1)


def test_that_a_condensed_prompt_grows_and_goes_back_to_its_end() -> None:
    cache = CACHES["snapkv"]()
    feed(cache, list(range(50)))
    cache.end_prompt()
    branch = cache.fork()
    assert cache.tokens == 8
    feed(cache, [1, 2, 3])
    cache.trim(51)
    same(feed(cache, [5]), feed(branch, [1]) and feed(branch, [5]))
    with pytest.raises(RunFailed, match="has condensed the 50 of the prompt"):
        cache.trim(49)


@settings(deadline=None, max_examples=25)
@given(steps=STEPS)
def test_that_blocks_are_counted_by_the_tables_that_refer_to_them(steps: list[Step]) -> None:
    layout = Layout(KV_HEADS, SIZE, MOST, torch.float32)
    caches = [Paged(PagedOptions(4), layout)]
    pool = caches[0].pool
    for number, (action, count) in enumerate(steps):
        cache = caches[number % len(caches)]
        if action == "pass":
            feed(cache, list(range(count)))
        elif action == "trim":
            cache.trim(max(0, cache.length - count))
        else:
            caches.append(cache.fork())
        for block, counted in enumerate(pool.counts):
            assert counted == sum(cache.table.count(block) for cache in caches)
        assert sum(counted > 0 for counted in pool.counts) + pool.free + pool.idle == len(pool.counts)
        assert all(len(cache.table) == -(-cache.length // 4) for cache in caches)
        del cache
    caches.clear()
    assert not any(pool.counts)
