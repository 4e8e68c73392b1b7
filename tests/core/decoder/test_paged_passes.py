"""Compiled passes over blocks that lie anywhere in the pool: the numbers of a dynamic cache, bit for bit."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from test_fused import TOKENS, decoder_for
from test_listed import PATTERNS

from core.attention.context import Context
from core.attention.gathered import Gathered
from core.attention.mask import FULL, Reach, Sparse
from core.attention.softmax import Softmax
from core.cache.base import Cache
from core.cache.dynamic import Dynamic
from core.cache.paged import Paged
from core.cache.table import PagedOptions
from core.decoder import linear
from core.decoder.fused.prompt import Prompt
from core.decoder.fused.runner import Fused
from core.decoder.model import Decoder
from core.decoder.probe import Probe
from core.decoder.sites import layout_of, sites_of
from core.engine.local import LocalSession
from core.technique import NoOptions
from core.weights import packed

pytestmark = pytest.mark.usefixtures("one_thread", "inside")
TEXT = [(7 * i + i * i // 3) % 128 for i in range(TOKENS)]
OTHER = [(3 + 5 * i + i * i // 7) % 128 for i in range(TOKENS)]
STEPS, SHORT = (1, 5, 13, 1), 60  # a row comes out the same in all passes of up to 64


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No layer is computed outside of compiled passes."""

    def fail(*_: object) -> NoReturn:
        raise AssertionError("a layer attends outside")

    monkeypatch.setattr(Context, "attend", fail)


class Pair:
    """Two sessions that are fed alike: over blocks of a pool, and over a dynamic cache."""

    def __init__(self, paged: LocalSession, dynamic: LocalSession) -> None:
        self.paged, self.dynamic = paged, dynamic

    def feed(self, tokens: Sequence[int]) -> bool:
        """Whether all logits are the same."""
        return torch.equal(self.paged.forward(tokens, True), self.dynamic.forward(tokens, True))

    def step(self, sizes: Sequence[int] = STEPS) -> bool:
        at = self.paged.length
        parts = torch.split(torch.tensor(OTHER[at : at + sum(sizes)]), list(sizes))
        return all(self.feed(part.tolist()) for part in parts)

    def trim(self, length: int) -> None:
        self.paged.trim(length)
        self.dynamic.trim(length)

    @property
    def table(self) -> list[int]:
        cache = self.paged.context.cache
        assert isinstance(cache, Paged)
        return cache.table


class Sequences:
    """Pairs over the same pool."""

    def __init__(self, decoder: Decoder, size: int, reach: Reach | Sparse = FULL, dtype: torch.dtype = torch.float32) -> None:
        self.decoder, self.size, self.reach, self.dtype = decoder, size, reach, dtype
        self.pools: dict[Hashable, Any] = {}
        self.compiled = Fused.of(decoder), Prompt.of(decoder)

    def pair(self, tokens: Sequence[int] = (), passes: Sequence[int] = (), **probed: Any) -> Pair:
        """Of sessions that read `tokens`, the paged one without those that it finds in the pool, from passes of such sizes."""
        paged, dynamic = (self._session(kind, Probe(**probed)) for kind in (Paged, Dynamic))
        known = paged.adopt(tokens)
        paged._prompt_length = 0  # passes go the way of their own size, so that the other session can go it too
        for end in np.cumsum(passes):
            dynamic.forward(tokens[dynamic.length : end])
        dynamic.trim(known)
        pair = Pair(paged, dynamic)
        assert known <= sum(passes)
        assert not tokens or pair.feed(tokens[known:])
        return pair

    def perforate(self) -> None:
        """Leave only blocks free, enough for two long sequences, of which none follows another."""
        cache = self.pair().paged.context.cache
        assert isinstance(cache, Paged)
        taken = cache.pool.take(4 * TOKENS // self.size)
        cache.pool.release(taken[1::2])

    def fork(self, pair: Pair) -> Pair:
        """A branch of both."""
        return Pair(*(self._branch(session) for session in (pair.paged, pair.dynamic)))

    def _session(self, kind: type[Paged | Dynamic], probe: Probe, cache: Cache | None = None) -> LocalSession:
        sites = sites_of(self.decoder, TOKENS, self.dtype)
        over = [Softmax(site, self.reach) if isinstance(self.reach, Reach) else Gathered(site, self.reach) for site in sites]
        layout = replace(layout_of(self.decoder, over, TOKENS, self.dtype), pools=self.pools)
        options: Any = PagedOptions(self.size) if kind is Paged else NoOptions()
        return LocalSession(self.decoder, Context(cache or kind(options, layout), over), probe, *self.compiled)

    def _branch(self, session: LocalSession) -> LocalSession:
        branch = self._session(Paged, Probe(), session.context.cache.fork())
        branch._all = list(session._all)
        return branch


def pieces(pair: Pair) -> int:
    """Runs that the blocks of the paged session stand in."""
    return 1 + sum(after != before + 1 for before, after in pairwise(pair.table))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("reach", [FULL, Reach(0, 20), Reach(3, 150), Reach(140, 9)])
@pytest.mark.parametrize("size", [1, 12, 16, 128])
def test_that_later_sequences_of_a_pool_have_the_numbers_of_a_dynamic_cache(
    size: int, reach: Reach, dtype: torch.dtype
) -> None:
    sequences = Sequences(decoder_for("llama-wide"), size, reach, dtype)
    first, second = sequences.pair(TEXT[:40]), sequences.pair(OTHER[:30])
    assert (first.table[0], pieces(first), pieces(second)) == (0, 1, 1)
    assert second.table[0] > 0
    for _ in range(6):
        assert second.step()
        assert first.step()
    third = sequences.pair(TEXT[:60], (60,))
    assert third.step((*STEPS, *(SHORT,) * 4, *STEPS))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("reach", [FULL, Reach(0, 20), Reach(3, 150), Reach(140, 9)])
@pytest.mark.parametrize("size", [1, 12, 16])
def test_that_blocks_anywhere_in_the_pool_give_the_same_numbers(size: int, reach: Reach, dtype: torch.dtype) -> None:
    sequences = Sequences(decoder_for("llama-wide"), size, reach, dtype)
    sequences.perforate()
    pair = sequences.pair(TEXT[:40])
    assert pair.step((*STEPS, *(SHORT,) * 5, *STEPS))
    assert pieces(pair) == len(pair.table) > 1


@pytest.mark.parametrize("family", ["mistral", "gemma2", "smollm3"])
def test_that_families_with_windows_and_caps_have_the_same_numbers(family: str) -> None:
    sequences = Sequences(decoder_for(family), 12)
    sequences.perforate()
    kept = sequences.pair(TEXT[:50])
    later = sequences.pair(OTHER[:50])
    assert kept.step()
    assert later.step((*STEPS, *(SHORT,) * 3))


@pytest.mark.parametrize("size", [1, 12, 16, 128])
def test_that_shared_forked_and_trimmed_sequences_have_the_same_numbers(size: int) -> None:
    sequences = Sequences(decoder_for(), size)
    first = sequences.pair(TEXT[:60])
    assert first.step((SHORT, SHORT, *STEPS))
    other = sequences.pair(OTHER[:20])
    shared = sequences.pair([*first.paged._all[:150], *OTHER[:7]], (SHORT, SHORT, 30))
    branch = sequences.fork(shared)
    assert shared.step()
    assert branch.step()
    shared.trim(100)
    assert other.step()
    assert shared.step((*STEPS, SHORT, *STEPS))
    assert branch.step()
    assert first.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_that_sparse_patterns_list_where_tokens_are(pattern: Sparse, dtype: torch.dtype) -> None:
    sequences = Sequences(decoder_for(), 4, pattern, dtype)
    sequences.perforate()
    kept, later = sequences.pair(TEXT[:30]), sequences.pair(OTHER[:40])
    assert later.step()
    assert kept.step()
    assert later.step((SHORT, SHORT, *STEPS))


def test_that_threads_put_chunks_together_each_for_itself() -> None:
    torch.set_num_threads(2)
    sequences = Sequences(decoder_for("llama-wide"), 1)
    sequences.perforate()
    pair = sequences.pair(TEXT[:SHORT])
    assert pair.step((*(SHORT,) * 6, *STEPS))
    assert pieces(pair) == len(pair.table)


def test_that_what_is_shown_of_attention_is_by_position() -> None:
    sequences = Sequences(decoder_for(), 12)
    sequences.perforate()
    kept = sequences.pair(TEXT[:30])
    later = sequences.pair(OTHER[:50], attention_layers=(0, 2))
    for _ in range(4):
        assert later.step()
        assert kept.step()
        (paged, dynamic) = (session.probe.take_attention() for session in (later.paged, later.dynamic))
        assert paged.keys() == dynamic.keys() == {0, 2}
        for layer, (weights, positions, _) in paged.items():
            assert positions.tolist() == list(range(later.paged.length))
            assert (weights == dynamic[layer][0]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("reach", [FULL, Reach(0, 20), Reach(3, 150)])
@pytest.mark.parametrize("size", [1, 12, 16, 128])
def test_that_prompts_of_later_sequences_have_the_numbers_of_the_first(
    size: int, reach: Reach, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (linear, packed):
        monkeypatch.setattr(module, "quick_dtype", lambda: dtype)
    sequences = Sequences(decoder_for("llama", "weights.name=rtn", "weights.group_size=32"), size, reach, dtype)
    first = sequences.pair(TEXT[:150])
    later = sequences.pair(OTHER[:130])
    assert later.table[0] > first.table[0] == 0
    assert later.step((5, 90, 1, 70, 1))
    later.trim(140)
    assert later.step((80, 1))
    branch = sequences.fork(later)
    assert branch.step((66, 1))
    assert first.step((66, 1))
    assert later.step((67, 1))


@pytest.mark.parametrize("reach", [FULL, Reach(3, 150)])
@pytest.mark.parametrize("size", [1, 12, 16])
def test_that_prompts_over_blocks_anywhere_in_the_pool_give_the_same_numbers(size: int, reach: Reach) -> None:
    sequences = Sequences(decoder_for("qwen2", "weights.name=rtn", "weights.group_size=32"), size, reach, torch.bfloat16)
    sequences.perforate()
    pair = sequences.pair(TEXT[:150])
    assert pair.step((90, 1, 70, *STEPS))
    assert pieces(pair) == len(pair.table)


def test_that_a_prompt_takes_over_blocks_and_leaves_its_own_behind() -> None:
    sequences = Sequences(decoder_for("qwen2"), 16)
    sequences.perforate()
    first = sequences.pair(TEXT[:60])
    assert first.step((60,))
    prompt, passes = [*first.paged._all, *TEXT[120:220]], (SHORT, SHORT)
    second = sequences.pair(prompt, passes)
    assert first.step()
    again = sequences.pair(prompt, (*passes[:1], 52, 108))
    for pair in (second, again):
        assert isinstance(pair.paged.context.cache, Paged)
        assert pair.paged.context.cache._ordered is None
    assert again.table[:13] == second.table[:13]
    assert again.step((1, 70, 1))
