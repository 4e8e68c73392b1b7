"""Techniques that choose keys by content, against a plain implementation, over several caches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from attending import CHUNKS, HEADS, KV_HEADS, SIZE, TOKENS, attended, context_of, draws, site
from plainly import Sees, plainly, score

from core.attention import block_topk, lsh, topk
from core.attention.context import Context
from core.attention.lsh import Lsh
from core.attention.mechanism import Mechanism, Rows, Site, Store
from core.attention.patterns import plan_of
from core.attention.scores import by_head, scores_of
from core.attention.selective import Look, Selective
from core.cache.base import Cache, Layout
from core.cache.h2o import H2O
from core.cache.off import Off
from core.cache.quantized import Quantized
from core.cache.rolling import Rolling
from core.cache.sinks import Sinks
from core.cache.snapkv import SnapKV
from core.cache.table import H2OOptions, QuantizedOptions, RollingOptions, SinksOptions, SnapKVOptions
from core.config import RunConfig
from core.decoder.probe import Probe
from core.technique import NoOptions

pytestmark = pytest.mark.usefixtures("one_thread")
SHARED = HEADS // KV_HEADS
TOPK = "attention.name=topk attention.k=5"
LSH = "attention.name=lsh attention.hashes=2 attention.buckets=6 attention.window=4"
BLOCKS = "attention.name=block_topk attention.block=4 attention.blocks=2 attention.local_blocks=2"
MEANS = f"{BLOCKS} attention.scores=mean"


def _highest(window: int) -> Sees:
    """The query itself and the four other keys with the highest scores, out of the last `window`."""
    q, k, _ = draws()
    chosen = {}
    for query in range(TOKENS):
        held = range(max(0, query - window + 1), query)
        for head in range(HEADS):
            scores = {key: float(score(q[query, head], k[key, head // SHARED])) for key in held}
            chosen[head, query] = {query, *sorted(scores, key=lambda key: -scores[key])[:4]}
    return lambda head, query, key: key in chosen[head, query]


def _of_a_bucket(window: int) -> Sees:
    q, k, _ = draws()
    mechanism = context_of(LSH, site()).mechanisms[0]
    assert isinstance(mechanism, Lsh)

    def bucket(x: torch.Tensor, rotation: torch.Tensor) -> int:
        turned = [float(x.dot(rotation[:, axis])) for axis in range(rotation.shape[1])]
        largest = max(range(len(turned)), key=lambda axis: abs(turned[axis]))
        return largest if turned[largest] > 0 else largest + len(turned)

    def sees(head: int, query: int, key: int) -> bool:
        pairs = ((bucket(q[query, head], r), bucket(k[key, head // SHARED], r)) for r in mechanism.rotations)
        return key > query - window and (key > query - 4 or any(one == other for one, other in pairs))

    return sees


def _of_a_block(mean: bool, window: int) -> Sees:
    """The first block, the query's own and the one before, and the two with the highest sum of scores of three heads."""
    q, k, _ = draws()

    def worth(query: int, group: int, block: int) -> float:
        keys, total = k[4 * block : 4 * block + 4, group], 0.0
        for head in range(group * SHARED, (group + 1) * SHARED):
            x = q[query, head]
            if mean:
                total += float(x.dot(sum(keys) / 4))  # type: ignore[arg-type]
            else:
                total += sum(max(float(x[d] * keys[:, d].min()), float(x[d] * keys[:, d].max())) for d in range(SIZE))
        return total

    chosen = {}
    for query in range(TOKENS):
        own = query // 4
        candidates = [block for block in range(1, own - 1) if 4 * block + 3 > query - window]
        for group in range(KV_HEADS):
            best = sorted(candidates, key=lambda block: -worth(query, group, block))[:2]
            chosen[group, query] = {0, own - 1, own, *best}
    return lambda head, query, key: key > query - window and key // 4 in chosen[head // SHARED, query]


WAYS = {
    TOPK: _highest,
    LSH: _of_a_bucket,
    BLOCKS: lambda window: _of_a_block(False, window),
    MEANS: lambda window: _of_a_block(True, window),
}


@pytest.mark.parametrize("settings", WAYS)
def test_that_chosen_keys_are_those_of_a_plain_choice(settings: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = plainly(WAYS[settings](TOKENS))
    for rows in (64, 5):
        for module in (block_topk, lsh, topk):
            monkeypatch.setattr(module, "ROWS", rows)
        for name, chunks in CHUNKS.items():
            found = attended(context_of(settings, site()), chunks)
            assert (found - expected).abs().max() < 1e-4, (name, rows)


@pytest.mark.parametrize("settings", WAYS)
def test_that_keys_are_chosen_among_those_a_rolling_cache_or_a_sliding_layer_holds(settings: str) -> None:
    expected = plainly(WAYS[settings](18))
    for name, chunks in CHUNKS.items():
        cache = Rolling(RollingOptions(18), Layout((KV_HEADS,), SIZE, TOKENS, torch.float32))
        found = attended(context_of(settings, site(), cache), chunks)
        assert (found - expected).abs().max() < 1e-4, name
        found = attended(context_of(settings, site(window=18)), chunks)
        assert (found - expected).abs().max() < 1e-4, name


@pytest.mark.parametrize("settings", WAYS)
def test_that_without_a_cache_the_same_keys_are_chosen(settings: str) -> None:
    context = context_of(settings, site(), Off(NoOptions(), Layout((KV_HEADS,), SIZE, TOKENS, torch.float32)))
    expected = plainly(WAYS[settings](TOKENS))
    q, k, v = draws()
    for end in (20, 31, TOKENS):
        found = context.attend(0, q[:end], k[:end], v[:end], context.rows(end, Probe()))
        assert (found - expected[:end]).abs().max() < 1e-4


@pytest.mark.parametrize("cap", [0.7])
@pytest.mark.parametrize("settings", [TOPK, LSH, BLOCKS])
def test_that_chosen_keys_keep_the_soft_cap(settings: str, cap: float) -> None:
    expected = plainly(WAYS[settings](TOKENS), cap)
    assert (attended(context_of(settings, site(cap)), CHUNKS["decode"]) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("settings", WAYS)
def test_that_after_a_rejected_draft_the_same_keys_are_chosen(settings: str) -> None:
    q, k, v = draws()
    context, other = context_of(settings, site()), torch.randn(7, KV_HEADS, SIZE)

    def fed(first: int, keys: torch.Tensor) -> torch.Tensor:
        rows = slice(first, first + len(keys))
        y = context.attend(0, q[rows], keys, v[rows], context.rows(len(keys), Probe()))
        context.advance(len(keys))
        return y

    fed(0, k[:22])
    fed(22, torch.cat((k[22:23], other[:6])))  # a draft that fills a block and begins the next
    context.trim(23)
    found = torch.cat([fed(position, k[position : position + 1]) for position in range(23, TOKENS)])
    assert (found - plainly(WAYS[settings](TOKENS))[23:]).abs().max() < 1e-4


@pytest.mark.parametrize("settings", [f"{TOPK}0", LSH.replace("window=4", "window=40"), BLOCKS.replace("blocks=2", "blocks=9")])
def test_that_techniques_are_exact_where_they_say_so(settings: str) -> None:
    expected = plainly(lambda *_: True)
    for chunks in CHUNKS.values():
        assert (attended(context_of(settings, site()), chunks) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("settings", [*WAYS, LSH.replace("window=4", "window=1")])
def test_that_prompts_over_keys_in_bfloat16_see_the_same_keys(settings: str) -> None:
    """Of keys and values that bfloat16 holds exactly: only weights are rounded."""
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        q, k, v = (x.bfloat16().float() for x in draws())
        context = context_of(settings, site(dtype=dtype))
        found.append(context.attend(0, q, k, v, context.rows(TOKENS, Probe())))
    assert (found[0] - found[1]).abs().max() < 0.02


CACHES: dict[str, tuple[type[Cache], object]] = {
    "sinks": (Sinks, SinksOptions(sinks=2, window=9)),
    "quantized": (Quantized, QuantizedOptions(bits=4, group_size=4, residual=5, sinks=2)),
    "h2o": (H2O, H2OOptions(budget=20, recent=8)),
    "snapkv": (SnapKV, SnapKVOptions(budget=12, window=4)),
}


class Masked(Mechanism):
    """What a technique lets through, as a plain mask over whatever the cache holds."""

    def __init__(self, technique: Selective) -> None:
        super().__init__(technique.site)
        self.technique = technique
        technique.attended = self._attended  # type: ignore[method-assign]

    def _attended(self, look: Look, rows: Rows) -> torch.Tensor:
        seen = by_head(self.technique.seen(look), HEADS) & by_head(look.reached, HEADS)
        weights = scores_of(look.turned, look.kv, self.site).masked_fill(~seen, -torch.inf).softmax(-1)
        return (weights @ look.kv.values.float().repeat_interleave(SHARED, 0)).transpose(0, 1)

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, store: Store, rows: Rows) -> torch.Tensor:
        return self.technique.attend(q, k, v, store, rows)


PATTERNS = ["attention.name=strided attention.window=3 attention.stride=4", "attention.name=bigbird attention.block=3"]


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("settings", [*WAYS, *PATTERNS])
def test_that_gathered_keys_are_those_of_the_mask_over_every_cache(settings: str, cache: str, chunks: list[int]) -> None:
    kind, options = CACHES[cache]
    found = []
    for change in (False, True):
        held = kind(options, Layout((KV_HEADS,), SIZE, TOKENS, torch.float32))
        context = context_of(settings, site(), held)
        if change:
            technique = context.mechanisms[0]
            assert isinstance(technique, Selective)
            context = Context(held, [Masked(technique)])
        found.append(attended(context, chunks))
    assert (found[0] - found[1]).abs().max() < 1e-4


@pytest.mark.parametrize("settings", WAYS)
def test_that_what_is_drawn_as_certain_is_always_seen(settings: str) -> None:
    sees, positions = WAYS[settings](TOKENS), np.arange(TOKENS)
    plan = plan_of(RunConfig().set(settings.split()).attention, KV_HEADS)
    certain, possible = (pattern.allowed(positions, positions) for pattern in (plan.surely, plan.possibly))
    assert plan.chosen
    for query, key in np.argwhere(certain):
        assert all(sees(head, int(query), int(key)) for head in range(HEADS))
    assert possible[np.tril_indices(TOKENS)].all()


def test_that_one_row_reads_the_chosen_blocks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    whole = block_topk.joined

    def counted(look: Look, parts: Sequence[Sequence[block_topk.Pick]], where: Site) -> torch.Tensor:
        read.extend(one.slots.shape[-1] for one in parts[0] if one.slots is not None)
        return whole(look, parts, where)

    monkeypatch.setattr(block_topk, "joined", counted)
    context: Context = context_of(BLOCKS, site(tokens=400))
    attended(context, [398, 1, 1])
    assert read[-2:] == [4 * (1 + 2 + 2) - 1, 4 * (1 + 2 + 2)]
