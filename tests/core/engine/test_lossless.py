"""Drafting beside every other technique of the local decoder: the tokens of plain decoding, token for token."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from engine_harness import Harness

from core.config import RunConfig
from core.decoder.probe import Probe
from core.engine.engine import Engine
from core.engine.local import LocalBackend, LocalSession
from core.engine.passes import MOST_VERIFIED
from core.errors import BadInput
from core.events import INSPECT
from core.trace import Trace

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


@pytest.mark.parametrize("name", ["dilated", "bigbird", "block_topk", "topk", "lsh", "linear_elu", "linformer", "landmark"])
def test_that_every_attention_looks_at_latents_as_at_keys_and_values(local: Harness, name: str) -> None:
    chosen = f"attention.name={name}"
    assert local.ids("", chosen, "heads.name=latent_kv", "heads.rank=32", prompt_tokens=PROMPT) == local.ids(
        "", chosen, prompt_tokens=PROMPT
    )


def session_of(folder: Path, settings: str) -> LocalSession:
    config = replace(RunConfig().set(settings.split()), model=str(folder))
    session = LocalBackend.load(config, lambda *_: None).session(config, 256, Probe())
    assert isinstance(session, LocalSession)
    return session


@pytest.mark.parametrize(
    "settings",
    [
        "",
        "attention.name=window attention.window=9",
        "attention.name=sink_window attention.sinks=3 attention.window=6",
        "attention.name=lsh attention.window=2",
        "attention.name=topk attention.k=5",
        "heads.name=latent_kv heads.rank=16",
    ],
)
@pytest.mark.parametrize("rows", [2, 5, 20])
def test_that_rows_verified_together_are_bit_for_bit_what_they_are_alone(tiny_llama: Path, settings: str, rows: int) -> None:
    alone, together = session_of(tiny_llama, settings), session_of(tiny_llama, settings)
    for session in (alone, together):
        session.forward(PROMPT)
    tokens = PROMPT[:40]
    expected = torch.cat([alone.forward([token]) for token in tokens])
    found = []
    for first in range(0, len(tokens), rows):
        assert together.alike(rows)
        found.append(together.forward(tokens[first : first + rows], all_logits=True))
    assert torch.equal(torch.cat(found), expected)


@pytest.mark.parametrize(
    "settings",
    [
        "cache.name=off",
        "cache.name=quantized cache.residual=3",
        "attention.name=linear_elu attention.window=9",
        "attention.name=linformer attention.block=8 attention.rank=2",
        "attention.name=landmark attention.segment=4",
        "weights.name=rtn weights.bits=4 weights.group_size=1",
    ],
)
def test_that_rows_which_torch_would_round_otherwise_are_not_verified_together(tiny_llama: Path, settings: str) -> None:
    session = session_of(tiny_llama, settings)
    session.forward(PROMPT)
    assert not session.alike(5)


def test_that_the_most_drafts_fit_into_a_verifying_pass() -> None:
    most = 64
    RunConfig().set([LOOKUP, f"decoding.draft_tokens={most}"])
    with pytest.raises(BadInput, match="draft_tokens"):
        RunConfig().set([LOOKUP, f"decoding.draft_tokens={most + 1}"])
    assert most + 1 == MOST_VERIFIED


def told(trace: Trace) -> list[object]:
    """What a trace says of its tokens and rounds, and of the attention of each row."""
    tokens = [(token.id, token.source, token.round, token.probability, token.text) for token in trace.tokens]
    rounds = [
        ([(token.id, token.probability) for token in one.drafted], one.accepted, one.final and one.final.id)
        for one in trace.rounds
    ]
    attention = [
        (one.layer, one.first_query, one.weights.tolist(), one.key_positions.tolist())
        for maps in trace.attention.values()
        for one in maps
    ]
    assert trace.finished is not None
    return [tokens, rounds, attention, trace.finished.reason, [step.kv_tokens for step in trace.steps]]


def test_that_a_round_of_single_passes_tells_what_one_pass_does(local: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    length = "run.max_new_tokens=40"
    plain = local.trace("", LOOKUP, length, prompt_tokens=PROMPT)
    drafted = [token.text for token in plain.tokens if token.source == "drafted" and token.text.strip().isprintable()]
    assert len(drafted) > 3
    for settings in (length, *(f"run.stop={text}" for text in dict.fromkeys(drafted[1:4]))):
        traces = []
        for alike in (True, False):
            monkeypatch.setattr(LocalSession, "alike", lambda *_, alike=alike: alike)
            traces.append(local.trace("", LOOKUP, settings, prompt_tokens=PROMPT, inspect=INSPECT))
        assert told(traces[0]) == told(traces[1])
