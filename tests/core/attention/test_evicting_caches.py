"""Caches that choose what to keep by what is looked at, against plain computations."""

from __future__ import annotations

import pytest
import torch
from attending import CHUNKS, HEADS, KV_HEADS, SCALE, SIZE, TOKENS, attended, context_of, draws, site

from core.cache.base import Layout
from core.cache.h2o import H2O
from core.cache.snapkv import SnapKV
from core.cache.table import H2OOptions, SnapKVOptions
from core.decoder.probe import Probe

pytestmark = pytest.mark.usefixtures("one_thread")
LAYOUT = Layout((KV_HEADS,), SIZE, TOKENS, torch.float32)
SHARED = HEADS // KV_HEADS


def looked(p: int, head: int, held: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights [held] of the query at p and what comes of them [D]."""
    q, k, v = draws()
    weights = (k[held, head // SHARED] @ q[p, head] * SCALE).softmax(0)
    return weights, weights @ v[held, head // SHARED]


def heavy_hitters(budget: int, recent: int, stride: int) -> tuple[torch.Tensor, list[list[int]]]:
    """y [T, H, D], and the positions that each KV head holds at the end."""
    found, held = torch.empty(TOKENS, HEADS, SIZE), [list[int]() for _ in range(KV_HEADS)]
    sums = torch.zeros(KV_HEADS, TOKENS)
    for p in range(TOKENS):
        for group in range(KV_HEADS):
            if p % stride == 0 and len(held[group]) > budget - stride:
                last = held[group][len(held[group]) - recent :]
                others = sorted(set(held[group]) - set(last), key=lambda token: -float(sums[group, token]))
                held[group] = sorted([*others[: budget - stride - recent], *last])
            held[group].append(p)
            for head in range(group * SHARED, (group + 1) * SHARED):
                weights, found[p, head] = looked(p, head, held[group])
                sums[group, held[group]] += weights
    return found, held


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize(("budget", "recent", "stride"), [(10, 4, 1), (20, 3, 4), (16, 0, 4), (8, 7, 1), (60, 30, 7)])
def test_that_heavy_hitters_stay_and_others_are_forgotten(chunks: list[int], budget: int, recent: int, stride: int) -> None:
    cache = H2O(H2OOptions(budget, recent), LAYOUT)
    assert cache.stride == stride
    expected, held = heavy_hitters(budget, recent, stride)
    got = attended(context_of("attention.name=full", site(), cache), chunks)
    assert (got - expected).abs().max() < 1e-4
    assert cache.positions[0][:, : cache.tokens].tolist() == held
    assert cache.tokens <= budget


def test_that_a_share_is_one_of_the_run_and_recent_tokens_one_of_the_budget() -> None:
    cache = H2O(H2OOptions(0.5, 0.25), Layout((KV_HEADS,), SIZE, 200, torch.float32))
    assert (cache.budget, cache.recent) == (100, 25)


@pytest.mark.parametrize("settings", ["full", "window attention.window=6"])
def test_that_evicting_caches_show_the_weights_at_their_positions(settings: str) -> None:
    probe, cache = Probe([0]), H2O(H2OOptions(10, 4), LAYOUT)
    attended(context_of(f"attention.name={settings}", site(), cache), [10, 27], probe)
    weights, positions, _ = probe.take_attention()[0]
    assert weights.shape == (HEADS, 27, TOKENS)
    assert positions.tolist() == list(range(TOKENS))
    assert abs(weights.astype(float).sum(-1) - 1).max() < 1e-2
    assert set((weights[0, -1] > 0).nonzero()[0]) <= set(cache.positions[0][0, : cache.tokens].tolist())


def condensed(prompt: int, budget: int, window: int, kernel: int) -> torch.Tensor:
    """y [T, H, D]: whole attention in the prompt, then over what each KV head keeps of it."""
    found, keeps = torch.empty(TOKENS, HEADS, SIZE), []
    for group in range(KV_HEADS):
        scores = torch.zeros(prompt - window)
        for head in range(group * SHARED, (group + 1) * SHARED):
            for p in range(prompt - window, prompt):
                scores += looked(p, head, list(range(p + 1)))[0][: prompt - window]
        pooled = [max(scores[max(0, i - (kernel - 1) // 2) : i + kernel // 2 + 1].tolist()) for i in range(len(scores))]
        best = sorted(range(len(scores)), key=lambda i: -pooled[i])[: budget - window]
        keeps.append([*sorted(best), *range(prompt - window, prompt)])
    for p in range(TOKENS):
        for head in range(HEADS):
            held = list(range(p + 1)) if p < prompt else [*keeps[head // SHARED], *range(prompt, p + 1)]
            found[p, head] = looked(p, head, held)[1]
    return found


@pytest.mark.parametrize("chunks", [[24], [10, 10, 4], [23, 1]])
@pytest.mark.parametrize("rest", [[13], [1] * 13, [5, 8]])
@pytest.mark.parametrize(("budget", "window", "kernel"), [(12, 4, 1), (10, 5, 2)])
def test_that_a_prompt_is_condensed_to_what_its_end_looks_at(
    chunks: list[int], rest: list[int], budget: int, window: int, kernel: int
) -> None:
    cache = SnapKV(SnapKVOptions(budget, window, kernel), LAYOUT)
    context = context_of("attention.name=full", site(), cache)
    found = []
    for q, k, v in zip(*(part.split([*chunks, *rest]) for part in draws()), strict=True):
        found.append(context.attend(0, q, k, v, context.rows(len(q), Probe())))
        context.advance(len(q))
        if context.length == 24:
            cache.end_prompt()
    assert (torch.cat(found) - condensed(24, budget, window, kernel)).abs().max() < 1e-4
    assert cache.tokens == budget + 13
