"""What caches that forget or round cost on the default model."""

from __future__ import annotations

import math
from pydoc_data.topics import topics

import pytest
import torch

from core.config import RunConfig
from core.decoder.probe import Probe
from core.engine.local import LocalBackend
from core.models.default import is_fetched

pytestmark = pytest.mark.skipif(not is_fetched(), reason="the default model is not fetched")
TOKENS, PROMPT = 640, 448


@pytest.fixture(scope="module")
def backend() -> LocalBackend:
    return LocalBackend.load(RunConfig(), lambda *_: None)


@pytest.fixture(scope="module")
def ids(backend: LocalBackend) -> list[int]:
    return backend.tokenizer.encode(topics["specialnames"][2000:])[:TOKENS]


def logs(backend: LocalBackend, ids: list[int], settings: str, prompt: int = 0) -> tuple[torch.Tensor, int]:
    """Logarithms of probabilities [T, V] after each token, and the tokens held. prompt: tokens that are the prompt."""
    session = backend.session(RunConfig().set(settings.split()), TOKENS, Probe())
    parts = [ids[:prompt], ids[prompt:]] if prompt else [ids]
    logits = []
    for part in parts:
        logits.append(session.forward(part, all_logits=True).clone())
        session.end_prompt()
    return torch.cat(logits).log_softmax(-1), session.kv_tokens


def perplexity(found: torch.Tensor, ids: list[int], first: int = 0) -> float:
    chosen = found[torch.arange(TOKENS - 1), torch.tensor(ids[1:])]
    return math.exp(-float(chosen[first:].mean()))


@pytest.mark.parametrize(("bits", "most"), [(4, 0.006), (2, 0.22)])
def test_that_few_bits_cost_little(backend: LocalBackend, ids: list[int], bits: int, most: float) -> None:
    exact, _ = logs(backend, ids, "cache.name=dynamic")
    coded, _ = logs(backend, ids, f"cache.name=quantized cache.bits={bits}")
    assert float((exact.exp() * (exact - coded)).sum(-1).mean()) < most


def test_that_heavy_hitters_are_worth_more_than_recent_tokens(backend: LocalBackend, ids: list[int]) -> None:
    heavy, held = logs(backend, ids, "cache.name=h2o cache.budget=0.2")
    recent, _ = logs(backend, ids, f"cache.name=rolling cache.window={TOKENS // 5}")
    assert held <= TOKENS // 5
    assert perplexity(heavy, ids) < 0.9 * perplexity(recent, ids)


def test_that_a_condensed_prompt_is_worth_more_than_its_end(backend: LocalBackend, ids: list[int]) -> None:
    condensed, held = logs(backend, ids, "cache.name=snapkv cache.budget=0.25", PROMPT)
    recent, _ = logs(backend, ids, f"cache.name=rolling cache.window={held}", PROMPT)
    assert held == PROMPT // 4 + TOKENS - PROMPT
    assert perplexity(condensed, ids, PROMPT) < perplexity(recent, ids, PROMPT)
