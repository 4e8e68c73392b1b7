"""What one KV head costs the default model with the heads that are shipped for it."""

from __future__ import annotations

import json
import math

import pytest
import torch

from core.calibration import evaluation_text
from core.config import RunConfig
from core.decoder.probe import Probe
from core.engine.local import LocalBackend
from core.heads.choice import heads_file
from core.models.default import is_fetched
from core.models.find import describe

pytestmark = pytest.mark.skipif(not is_fetched(), reason="the default model is not fetched")
SHARED = RunConfig().set(["heads.name=kv_sharing", "heads.kv_heads=1", "heads.repair=true"])
TOKENS = 1024


def test_that_they_are_shipped_with_their_log() -> None:
    file = heads_file(SHARED, describe("default"))
    assert file is not None
    assert file.stat().st_size <= 8_000_000
    log = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    assert log["command"].startswith("distill kv_sharing --steps")
    assert log["after"] < 0.5 * log["before"]


def perplexity(config: RunConfig) -> float:
    """Of the first tokens of the text that nothing was trained on."""
    backend = LocalBackend.load(config, lambda *_: None)
    ids = backend.tokenizer.encode(evaluation_text()[: 8 * TOKENS], special=False)[:TOKENS]
    logits = backend.session(config, TOKENS, Probe()).forward(ids[:-1], all_logits=True)
    return math.exp(float(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]))))


def test_that_perplexity_is_at_most_twice_the_original() -> None:
    assert perplexity(SHARED) < 2 * perplexity(RunConfig())
