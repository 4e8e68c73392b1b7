"""Attention to compressed blocks against a plain implementation: one query at a time."""

from __future__ import annotations

from math import exp

import pytest
import torch
from attending import CHUNKS, HEADS, KV_HEADS, SCALE, TOKENS, attended, context_of, draws, rewound, site
from hypothesis import given, settings
from hypothesis import strategies as st

from core.attention.softmax import Softmax
from core.config import RunConfig
from core.decoder.probe import Probe
from core.errors import BadInput, RunFailed

pytestmark = pytest.mark.usefixtures("one_thread")
LONG = 300
SHARED = HEADS // KV_HEADS
LINFORMER = "attention.name=linformer attention.block=8 attention.rank=4 attention.local=1 attention.sinks=3"
NYSTROM = "attention.name=landmark attention.segment=5 attention.local=2 attention.sinks=2"


def score(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b) * SCALE


def blocks_of(sinks: int, block: int, query: int, local: int) -> tuple[list[list[int]], list[int]]:
    """The whole past blocks that a query sees compressed, and the tokens that it sees as they are."""
    own = max(0, query - sinks) // block - local
    compressed = [list(range(sinks + index * block, sinks + (index + 1) * block)) for index in range(max(0, own))]
    gone = {token for tokens in compressed for token in tokens}
    return compressed, [token for token in range(query + 1) if token not in gone]


def pooled(rank: int, tokens: list[int], query: int, head: int) -> list[tuple[float, dict[int, float]]]:
    """Weight of each row, and the share of each token in it."""
    q, k, _ = draws()
    each = len(tokens) // rank
    rows = []
    for row in range(rank):
        part = tokens[row * each : (row + 1) * each]
        mean = sum(k[token, head // SHARED] for token in part) / each
        rows.append((exp(score(q[query, head], mean)) * each, dict.fromkeys(part, 1 / each)))
    return rows


def nystrom(tokens: list[int], query: int, head: int) -> list[tuple[float, dict[int, float]]]:
    q, k, _ = draws()
    keys = [k[token, head // SHARED] for token in tokens]
    mean_q, mean_k = sum(q[token, head] for token in tokens) / len(tokens), sum(keys) / len(tokens)
    kernel = {token: exp(score(mean_q, key)) for token, key in zip(tokens, keys, strict=True)}
    total = sum(kernel.values())
    weight = exp(score(q[query, head], mean_k)) / exp(score(mean_q, mean_k)) * total
    return [(weight, {token: share / total for token, share in kernel.items()})]


def weights(settings_: str) -> torch.Tensor:
    """[H, T, S] of all draws."""
    options = RunConfig().set(settings_.split()).attention.options
    block = options.block if "linformer" in settings_ else options.segment
    q, k, _ = draws()
    found = torch.zeros(HEADS, TOKENS, TOKENS)
    for head in range(HEADS):
        for query in range(TOKENS):
            compressed, exact = blocks_of(options.sinks, block, query, options.local)
            for token in exact:
                found[head, query, token] = exp(score(q[query, head], k[token, head // SHARED]))
            for tokens in compressed:
                if getattr(options, "summary", "mean") == "nystrom":
                    rows = nystrom(tokens, query, head)
                else:
                    rows = pooled(getattr(options, "rank", 1), tokens, query, head)
                for weight, shares in rows:
                    for token, share in shares.items():
                        found[head, query, token] += weight * share
    return found / found.sum(-1, keepdim=True)


TECHNIQUES = [
    LINFORMER,
    LINFORMER.replace("local=1", "local=0").replace("sinks=3", "sinks=0"),
    NYSTROM,
    NYSTROM.replace("local=2", "local=0"),
    f"{NYSTROM} attention.summary=mean",
]


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_that_compressed_blocks_weigh_what_they_say(technique: str) -> None:
    v = draws()[2].repeat_interleave(SHARED, dim=1)
    seen = weights(technique)
    expected = torch.einsum("hts,shd->thd", seen, v)
    for chunks in CHUNKS.values():
        assert (attended(context_of(technique, site()), chunks) - expected).abs().max() < 1e-4
    probe = Probe([0])
    attended(context_of(technique, site()), [TOKENS], probe)
    found, positions, _ = probe.take_attention()[0]
    assert positions.tolist() == list(range(TOKENS))
    assert abs(found - seen.numpy()).max() < 1e-3


@pytest.mark.parametrize("technique", [LINFORMER, NYSTROM])
def test_that_a_text_of_less_than_a_block_shows_its_own_weights(technique: str) -> None:
    shown = []
    for chosen in (technique, "attention.name=full"):
        probe = Probe([0])
        attended(context_of(chosen, site()), [4], probe)
        shown.append(probe.take_attention()[0][0])
    assert abs(shown[0] - shown[1]).max() < 1e-3


@pytest.mark.parametrize("technique", [LINFORMER.replace("rank=4", "rank=8"), NYSTROM.replace("segment=5", "segment=1")])
def test_that_nothing_is_lost_where_every_token_has_a_row(technique: str) -> None:
    full = attended(context_of("attention.name=full", site(tokens=LONG)), [LONG])
    assert (attended(context_of(technique, site(tokens=LONG)), [LONG]) - full).abs().max() < 1e-4


@pytest.mark.parametrize("technique", [LINFORMER, NYSTROM])
@settings(deadline=None, max_examples=15)
@given(steps=st.lists(st.tuples(st.integers(1, 90), st.integers(0, 64)), min_size=1, max_size=8))
def test_that_rows_of_the_last_pass_can_be_taken_back(technique: str, steps: list[tuple[int, int]]) -> None:
    found, expected = rewound(technique, steps)
    assert (found - expected).abs().max() < 1e-4


def test_that_going_further_back_is_refused() -> None:
    context = context_of(LINFORMER, site(tokens=LONG))
    attended(context, [LONG])
    with pytest.raises(RunFailed, match="cannot go back from 300 tokens to 100"):
        context.trim(100)


def test_that_rows_must_be_means_of_equally_many_tokens() -> None:
    with pytest.raises(BadInput, match=r"attention\.rank=5 does not divide attention\.block=8"):
        context_of(LINFORMER.replace("rank=4", "rank=5"), site())


def test_that_a_trained_sliding_window_stays() -> None:
    assert isinstance(context_of(NYSTROM, site(window=9)).mechanisms[0], Softmax)
