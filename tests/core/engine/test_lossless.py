"""Drafting beside every other technique of the local decoder: the tokens of plain decoding, token for token."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from engine_harness import Harness

from core.config import RunConfig
from core.decoder.probe import Probe
from core.engine.engine import Engine
from core.engine.local import LocalBackend, LocalSession
from core.engine.passes import MOST_VERIFIED

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


def session_of(folder: Path, settings: str, probe: Probe | None = None) -> LocalSession:
    config = RunConfig().set([f"model={folder}", *settings.split()])
    session = LocalBackend.load(config, lambda *_: None).session(config, 256, probe or Probe())
    assert isinstance(session, LocalSession)
    return session


@pytest.mark.parametrize(
    "settings",
    [
        "",
        "cache.name=off",
        "cache.name=quantized cache.bits=4 cache.group_size=16 cache.residual=3",
        "attention.name=lsh attention.window=2",
        "attention.name=topk attention.k=5",
        "attention.name=linear_elu attention.window=9",
        "attention.name=linformer attention.block=8 attention.rank=2",
        "attention.name=landmark attention.segment=4",
        "heads.name=latent_kv heads.rank=8",
        "weights.name=cast weights.dtype=float16",
        "weights.name=rtn weights.bits=4 weights.group_size=1",
    ],
)
@pytest.mark.parametrize("rows", [2, 5, 20])
def test_that_a_verified_row_is_bit_for_bit_what_it_is_alone(tiny_llama: Path, settings: str, rows: int) -> None:
    alone, together = session_of(tiny_llama, settings), session_of(tiny_llama, settings)
    for session in (alone, together):
        session.forward(PROMPT)
    tokens = PROMPT[:40]
    expected = torch.cat([alone.forward([token]) for token in tokens])
    found = [together.forward(tokens[first : first + rows], all_logits=True) for first in range(0, len(tokens), rows)]
    assert torch.equal(torch.cat(found), expected)


def test_that_the_most_drafts_fit_into_a_verifying_pass() -> None:
    most = 64
    RunConfig().set([LOOKUP, f"decoding.draft_tokens={most}"])
    with pytest.raises(ValueError, match="draft_tokens"):
        RunConfig().set([LOOKUP, f"decoding.draft_tokens={most + 1}"])
    assert most + 1 == MOST_VERIFIED


@pytest.mark.parametrize(
    "settings", ["", "cache.name=quantized cache.residual=200", "attention.name=window attention.window=20"]
)
def test_that_a_long_prompt_comes_out_the_same_however_it_is_divided(tiny_llama: Path, settings: str) -> None:
    prompt, found = tuple(3 + i * i % 200 for i in range(150)), []
    for chunk in (150, 64, 70, 16):
        session = session_of(tiny_llama, settings)
        session.adopt(prompt)
        parts = [session.forward(prompt[first : first + chunk]) for first in range(0, len(prompt), chunk)]
        found.append(torch.cat([parts[-1], *(session.forward([token]) for token in (5, 6, 7))]))
    assert all(torch.equal(one, found[0]) for one in found)


def test_that_verified_rows_show_their_attention_as_one_pass(tiny_llama: Path) -> None:
    probe = Probe(attention_layers=(0, 1))
    session = session_of(tiny_llama, "attention.name=linear_elu attention.window=9", probe)
    session.forward(PROMPT)
    probe.take_attention()
    session.forward(PROMPT[:5], all_logits=True)
    for weights, positions, _ in probe.take_attention().values():
        assert weights.shape[1:] == (5, len(PROMPT) + 5)
        assert positions.tolist() == list(range(len(PROMPT) + 5))
        assert not weights[:, 0, -4:].any()
        assert weights[:, 4, -1].any()
