"""The attention mass that a technique keeps, against a plain softmax over all that the cache holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attending import HEADS, KV_HEADS, SIZE, TOKENS, attended, context_of, draws, site
from plainly import score

from core.attention.showing import stacked
from core.cache.base import Layout
from core.cache.rolling import Rolling
from core.cache.table import RollingOptions
from core.decoder.probe import Probe

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = [
    "window attention.window=5",
    "sink_window attention.sinks=2 attention.window=4",
    "dilated attention.window=4 attention.dilation=3",
    "strided attention.window=3 attention.stride=5",
    "local_global attention.window=3 attention.every=8",
    "bigbird attention.block=3 attention.window_blocks=1",
    "block_topk attention.block=3 attention.blocks=2",
    "topk attention.k=6",
    "lsh attention.window=3 attention.buckets=8",
]


def _full(query: int, head: int, keys: np.ndarray) -> np.ndarray:
    """Weights of plain softmax over `keys`, those after the query left out."""
    q, k, _ = draws()
    scores = [float(score(q[query, head], k[key, head // (HEADS // KV_HEADS)])) for key in keys]
    weights = np.where(keys <= query, np.exp(scores), 0.0)
    whole: np.ndarray = weights / weights.sum()
    return whole


@pytest.mark.parametrize("chunks", [[TOKENS], [30, 6, 1]], ids=["prefill", "decode"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_that_mass_is_the_share_of_plain_softmax_on_what_is_seen(settings: str, chunks: list[int]) -> None:
    probe = Probe(attention_layers=[0])
    attended(context_of(f"attention.name={settings}", site()), chunks, probe)
    weights, keys, mass = probe.take_attention()[0]
    assert mass is not None
    assert mass.shape == weights.shape[:2] == (HEADS, chunks[-1])
    for row in range(chunks[-1]):
        query = TOKENS - chunks[-1] + row
        for head in range(HEADS):
            full = _full(query, head, keys)
            seen = weights[head, row] > 0
            assert mass[head, row] == pytest.approx(full[seen].sum(), abs=2e-3)
            assert weights[head, row] == pytest.approx(np.where(seen, full, 0) / full[seen].sum(), abs=2e-3)


def test_that_mass_counts_what_the_cache_still_holds() -> None:
    probe = Probe(attention_layers=[0])
    cache = Rolling(RollingOptions(10), Layout((KV_HEADS,), SIZE, TOKENS, torch.float32))
    attended(context_of("attention.name=window attention.window=4", site(), cache), [30, 6, 1], probe)
    _, keys, mass = probe.take_attention()[0]
    assert mass is not None
    assert sorted(keys) == list(range(TOKENS - 10, TOKENS))
    full = _full(TOKENS - 1, 2, keys)
    assert mass[2, 0] == pytest.approx(full[keys > TOKENS - 5].sum(), abs=1e-4)


@pytest.mark.parametrize("window", [None, 9])
def test_that_there_is_no_mass_to_tell_where_nothing_is_hidden(window: int | None) -> None:
    probe = Probe(attention_layers=[0])
    attended(context_of("attention.name=full", site(window=window)), [30, 6, 1], probe)
    assert probe.take_attention()[0][2] is None


def test_that_captures_of_successive_rows_keep_their_mass() -> None:
    parts = [
        (np.ones((2, 1, 3), np.float16), np.arange(3), None),
        (np.ones((2, 1, 4), np.float16), np.arange(4), np.zeros((2, 1))),
    ]
    weights, keys, mass = stacked(parts)
    assert weights.shape == (2, 2, 4)
    assert len(keys) == 4
    assert mass is not None
    assert mass.tolist() == [[1.0, 0.0]] * 2
