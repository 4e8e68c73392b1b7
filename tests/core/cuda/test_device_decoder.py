"""The decoder of a device, on the processor, against the plain decoder: every dense family, every way through its cache."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from core.cuda.session import Room
from core.decoder.probe import Probe
from core.errors import BadInput
from tests.core.cuda.device_models import TOKENS, Pair, pair_of, passes
from tests.core.decoder.parity_models import CASES, Case, save

pytestmark = pytest.mark.usefixtures("one_thread")
TOLERANCE = 1e-4
MIXTURES = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe")
DENSE = [case for case in CASES if case.family not in MIXTURES]
LLAMA = next(case for case in CASES if case.name == "llama")


@pytest.fixture(scope="module", params=DENSE, ids=lambda case: case.name)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return saved(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return saved(LLAMA, tmp_path_factory)


def saved(case: Case, factory: pytest.TempPathFactory, **how: Any) -> Pair:
    folder = factory.mktemp(case.name)
    save(case, folder)
    return pair_of(folder, **how)


def test_that_prompts_and_steps_give_the_logits_of_the_plain_decoder(pair: Pair) -> None:
    found = passes(pair.session(), [70, 40, 1, 5, 1, 1, 20, 12])
    assert (found - pair.expected()).abs().max() < TOLERANCE


@pytest.mark.parametrize("settings", ["window attention.window=20", "sink_window attention.sinks=3 attention.window=20"])
def test_that_windows_and_sinks_hide_what_they_hide_in_the_plain_decoder(pair: Pair, settings: str) -> None:
    found = passes(pair.session(settings), [100, 30, 1, 7, 12])
    assert (found - pair.expected(settings)).abs().max() < TOLERANCE


def test_that_the_cache_grows_from_bucket_to_bucket(llama: Pair) -> None:
    session = llama.session()
    assert session.kv_bytes == 0
    session.forward(TOKENS[:100])
    small = session.kv_bytes
    last = session.forward(TOKENS[100:129])
    assert session.kv_bytes == 2 * small == 256 * session.layout.token_nbytes
    assert (session.kv_tokens, session.kv_read) == (129, 129 * session.layout.token_nbytes)
    assert (last[-1] - llama.expected()[128]).abs().max() < TOLERANCE


def test_that_a_static_cache_is_there_from_the_start_and_refuses_more(llama: Pair) -> None:
    session = llama.session(room=Room(100, whole=True))
    assert session.kv_bytes == 128 * session.layout.token_nbytes
    session.forward(TOKENS[:99])
    session.forward(TOKENS[99:100])
    with pytest.raises(BadInput, match="holds 100 tokens and the run needs 101"):
        session.forward(TOKENS[100:101])


def test_that_what_is_taken_back_was_never_there(llama: Pair) -> None:
    session = llama.session()
    session.forward(TOKENS[:90])
    session.forward([5, 6, 7, 8, 9], all_logits=True)
    session.trim(92)
    session.forward(TOKENS[92:120], all_logits=True)
    session.trim(90)
    found = session.forward(TOKENS[90:150], all_logits=True)
    assert (found - llama.expected()[90:]).abs().max() < TOLERANCE


def test_that_stores_and_their_steps_are_used_again_by_the_next_run(llama: Pair) -> None:
    first, second = llama.session(), llama.session()
    for session in (first, second):
        session.forward(TOKENS[:4])
    store = first._store
    assert second._store is not store is not None
    made = len(store.steps)
    del first, session
    third = llama.session()
    assert (third.forward(TOKENS[:4]) - llama.expected()[3]).abs().max() < TOLERANCE
    assert third._store is store
    assert len(store.steps) == made


def test_that_attention_is_shown_as_the_plain_decoder_shows_it(llama: Pair) -> None:
    probe = Probe(attention_layers=(1,))
    session = llama.session(probe=probe)
    for first, last in ((0, 60), (60, 61), (61, 73)):
        session.forward(TOKENS[first:last], all_logits=True)
        weights, keys, mass = probe.take_attention()[1]
        assert weights.shape[1] == last - first
        assert mass is None  # nothing is hidden
        seen = torch.from_numpy(weights).float()
        assert (seen.sum(-1) - 1).abs().max() < 2e-3
        later = torch.from_numpy(keys)[None, :] > torch.arange(first, last)[:, None]
        assert not seen[:, later].any()


def test_that_phases_are_charged_in_prompts(llama: Pair) -> None:
    probe = Probe()
    llama.session(probe=probe).forward(TOKENS)
    phases = probe.take()
    assert set(phases) == {"embed", "norm", "attention", "ffn", "head"}
    assert min(phases.values()) > 0


GROUPS = "weights.name=rtn weights.group_size=16"


@pytest.mark.parametrize("weights", [f"{GROUPS} weights.bits=4", "weights.name=rtn weights.group_size=0 weights.bits=8"])
def test_that_rounded_weights_are_those_of_the_processor(tmp_path_factory: pytest.TempPathFactory, weights: str) -> None:
    pair = saved(LLAMA, tmp_path_factory, weights=weights.split())
    for mine, its in zip(pair.steps.decoder.decoder.blocks, pair.plain.blocks, strict=True):
        assert torch.equal(mine.attention.qkv.dense(), its.attention.qkv.dense())
    found, expected = passes(pair.session(), [100, 1, 5, 44]), pair.expected()
    assert (found - expected).abs().max() < 0.06 * expected.abs().max()  # activations, keys and values are bfloat16


@pytest.mark.parametrize("weights", ["weights.name=cast", "weights.name=cast weights.dtype=float16"])
def test_that_kernels_make_the_same_decoder(
    fused: Any, device: torch.device, tmp_path_factory: pytest.TempPathFactory, weights: str
) -> None:
    pair = saved(LLAMA, tmp_path_factory, device=device, kernels=fused, weights=weights.split())
    found, expected = passes(pair.session(), [9, 2]), pair.expected(fed=TOKENS[:11])
    assert (found - expected).abs().max() < (5e-3 if "float16" in weights else TOLERANCE) * expected.abs().max()
