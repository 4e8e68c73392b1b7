"""Steps after thousands of tokens: as long as after 128 with linear attention, shorter with a window or a sparse pattern than
with full attention, and over the blocks of a paged cache; and steps with fewer experts, or with latents in the cache.

What is compared is measured in turns in one run.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from time import perf_counter

import pytest

from core.calibration import calibration_tokens
from core.config import RunConfig
from core.decoder.probe import Probe
from core.engine.backend import Session
from core.engine.local import LocalBackend
from core.models.default import is_fetched

SHORT, HALF_LONG, LONG, STEPS = 128, 4000, 8000, 60
pytestmark = pytest.mark.skipif(not is_fetched(), reason="the default model is not fetched")


@pytest.mark.parametrize("technique", ["linear_elu", "performer", "linear_learned"])
def test_that_a_step_takes_as_long_after_many_tokens_as_after_few(technique: str) -> None:
    sessions = [session_after(length, f"attention.name={technique}") for length in (SHORT, LONG)]
    short, long = medians(sessions)
    print(f"\n{technique}: {1000 * short:.2f} ms a step after {SHORT} tokens, {long / short:.3f} times that after {LONG}")
    assert long / short < 1.1
    assert len({session.kv_bytes for session in sessions}) == 1


def test_that_a_window_with_sinks_decodes_faster_than_full_attention() -> None:
    settings = ("attention.name=full",), ("attention.name=sink_window", "attention.window=512", "attention.sinks=4")
    full, window = medians([session_after(LONG, *each) for each in settings])
    told = f"full {1000 * full:.2f} ms a step, sink_window {1000 * window:.2f}, {full / window:.2f} times as fast"
    print(f"\nafter {LONG} tokens: {told}")
    assert full / window >= 1.5


def test_that_sparse_patterns_and_chosen_blocks_decode_faster_than_full_attention() -> None:
    names = "full", "dilated", "strided", "local_global", "bigbird", "block_topk"
    full, *others = medians([session_after(HALF_LONG, f"attention.name={name}") for name in names])
    told = ", ".join(f"{name} {1000 * each:.2f} ms, {full / each:.2f}" for name, each in zip(names[1:], others, strict=True))
    print(f"\nafter {HALF_LONG} tokens, full attention {1000 * full:.2f} ms a step; times as fast: {told}")
    assert min(full / each for each in others) >= 1.2


def test_that_keys_chosen_by_scores_or_buckets_decode_about_as_fast_as_full_attention() -> None:
    full, topk, lsh = medians([session_after(HALF_LONG, f"attention.name={name}") for name in ("full", "topk", "lsh")])
    told = f"topk takes {topk / full:.2f} times that, lsh {lsh / full:.2f}"
    print(f"\nafter {HALF_LONG} tokens, full attention {1000 * full:.2f} ms a step; {told}")
    assert topk / full < 1.3
    assert lsh / full < 1


@pytest.mark.parametrize("technique", ["topk", "lsh", "block_topk"])
def test_that_prompts_of_chosen_keys_are_read_at_a_share_of_the_speed_of_full_attention(technique: str) -> None:
    full, chosen = (seconds_of_a_prompt(f"attention.name={name}") for name in ("full", technique))
    print(
        f"\na prompt of {HALF_LONG} tokens: full attention {HALF_LONG / full:.0f} tok/s, {technique} {HALF_LONG / chosen:.0f}"
    )
    assert chosen / full < 8


def test_that_latents_decode_about_as_fast_as_keys_and_values() -> None:
    full, latent = medians([session_after(512, name) for name in ("heads.name=as_trained", "heads.name=latent_kv")])
    print(f"\nafter 512 tokens, {1000 * full:.2f} ms a step; latent_kv {1000 * latent:.2f}, {latent / full:.2f} times that")
    assert latent / full < 1.8


def test_that_a_later_run_over_a_paged_cache_decodes_about_as_fast_as_over_a_dynamic_one() -> None:
    paged = RunConfig().set(("cache.name=paged",))
    backend = LocalBackend.load(paged, lambda *_: None)
    sessions = [backend.session(config, LONG, Probe()) for config in (paged, RunConfig(), paged)]
    for first, session in enumerate(sessions):
        session.forward([first, *calibration_tokens(backend.tokenizer, HALF_LONG)])
    dynamic, later = medians(sessions[1:])
    print(
        f"\nafter {HALF_LONG} tokens, {1000 * dynamic:.2f} ms a step; a later run over blocks {later / dynamic:.3f} times that"
    )
    assert later / dynamic <= 1.15


def test_that_fewer_experts_take_no_longer_than_the_dense_block() -> None:
    settings = ("ffn.name=dense",), ("ffn.name=moefy",), ("ffn.name=moefy", "ffn.top_k=2")
    dense, many, few = medians([session_after(SHORT, *each) for each in settings])
    print(f"\ndense {1000 * dense:.2f} ms a step; 6 of 8 experts {many / dense:.2f} times that, 2 of 8 {few / dense:.2f}")
    assert many / dense < 1.15
    assert few / dense < 0.95


def session_after(length: int, *settings: str) -> Session:
    """A session that has read so many tokens."""
    config = RunConfig().set(settings)
    backend = LocalBackend.load(config, lambda *_: None)
    session = backend.session(config, LONG + STEPS, Probe())
    session.forward(calibration_tokens(backend.tokenizer, length))
    return session


def seconds_of_a_prompt(*settings: str) -> float:
    """The second time, when all is compiled."""
    session = session_after(HALF_LONG, *settings)
    tokens = list(range(100, 100 + HALF_LONG))
    session.trim(0)
    began = perf_counter()
    session.forward(tokens)
    return perf_counter() - began


def medians(sessions: Sequence[Session]) -> list[float]:
    """Seconds of a step of each."""
    times = [[timed(session) for session in sessions] for _ in range(STEPS)]
    return [median(column) for column in zip(*times, strict=True)]


def timed(session: Session) -> float:
    began = perf_counter()
    session.forward([0])
    return perf_counter() - began
