"""Drafting beside every other technique of the local decoder: the tokens of plain decoding, token for token."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_harness import Harness

from core.engine.engine import Engine

PROMPT = tuple(range(100, 170))
LOOKUP = "decoding.name=prompt_lookup"


@pytest.fixture(scope="module")
def local(engine: Engine, tiny_llama: Path) -> Harness:
    return Harness(engine, tiny_llama, "local")


@pytest.mark.parametrize(
    "settings",
    [
        "cache.name=off",
        "cache.name=static",
        "cache.name=static cache.capacity=200",
        "heads.name=kv_sharing heads.kv_heads=4",
        "ffn.name=moefy ffn.experts=8 ffn.top_k=8",
        "attention.name=window attention.window=200",
        "attention.name=sink_window attention.sinks=4 attention.window=200",
        "attention.name=linear_elu attention.window=200",
        "attention.name=performer attention.window=200 attention.layers=1",
        "attention.name=linformer attention.rank=64",
        "attention.name=landmark attention.segment=1",
        "cache.name=rolling cache.window=200",
        "cache.name=sinks cache.sinks=4 cache.window=200",
        "cache.name=quantized cache.residual=200",
        "cache.name=h2o cache.budget=200 cache.recent=100",
        "cache.name=snapkv cache.budget=1.0",
        "cache.name=paged cache.block_size=8",
        "cache.name=offloaded",
        "weights.name=cast weights.dtype=float32",
    ],
)
def test_that_exact_techniques_give_the_tokens_of_plain_decoding(local: Harness, settings: str) -> None:
    assert local.ids("", *settings.split(), prompt_tokens=PROMPT) == local.ids("", prompt_tokens=PROMPT)


@pytest.mark.parametrize(
    "settings",
    [
        "cache.name=off",
        "cache.name=static",
        "cache.name=quantized cache.bits=4 cache.group_size=16 cache.residual=3",
        "cache.name=snapkv cache.budget=0.4",
        "cache.name=paged cache.block_size=8",
        "cache.name=offloaded",
        "heads.name=kv_sharing heads.kv_heads=1",
        "ffn.name=moefy ffn.experts=8 ffn.top_k=3",
        "attention.name=window attention.window=9",
        "attention.name=sink_window attention.sinks=2 attention.window=9",
        "attention.name=linear_elu attention.window=9",
        "attention.name=linear_elu attention.window=0 cache.name=off",
        "attention.name=performer attention.window=9 attention.layers=0",
        "attention.name=linformer attention.block=8 attention.rank=2",
        "attention.name=landmark attention.segment=4 cache.name=off",
        "weights.name=rtn weights.bits=4 weights.group_size=32",
        "weights.name=bnb_nf4",
        "sampling.repetition_penalty=1.3",
    ],
)
def test_that_drafting_changes_no_token_beside_any_technique(local: Harness, settings: str) -> None:
    chosen = settings.split()
    drafted = local.trace("", *chosen, LOOKUP, "run.max_new_tokens=40", prompt_tokens=PROMPT)
    plain = local.ids("", *chosen, "run.max_new_tokens=40", prompt_tokens=PROMPT)
    assert [token.id for token in drafted.tokens] == plain
    assert drafted.rounds
