"""The default model itself: the same tokens as transformers, and every technique at work."""

from __future__ import annotations

import pytest
import torch

from core.config import RunConfig
from core.engine.engine import Engine
from core.errors import BadInput
from core.events import INSPECT, MEASURE, Inspect, RunRequest
from core.models.default import DEFAULT_FILE
from core.models.find import resolve
from core.techniques import CATALOGUE
from core.trace import Trace, record

PROMPT, NEW_TOKENS = "The capital of France is", 32
FULL_PRECISION = ("weights.name=cast", "weights.dtype=float32")
LOSSLESS = (
    (),
    ("cache.name=off",),
    ("cache.name=static",),
    ("cache.name=rolling", "cache.window=64"),
    ("decoding.name=prompt_lookup",),
    ("heads.name=kv_sharing", "heads.kv_heads=9"),
    ("attention.name=window", "attention.window=64"),
    ("ffn.name=moefy", "ffn.experts=4", "ffn.top_k=4"),
)
COPYING = "The quick brown fox jumps over the lazy dog near the old stone bridge.\n" * 4
# What a technique needs besides its name to run on this model, or why it cannot.
SETTINGS = {("heads", "kv_sharing"): ("heads.layers=last:8",), ("cache", "rolling"): ("cache.window=16",)}
DENSE_MODEL = ("ffn", "experts")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@pytest.fixture(scope="module")
def expected() -> list[int]:
    """What transformers' greedy generate gives in float32 on the same file."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, options = resolve("default").parent, {"gguf_file": DEFAULT_FILE}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
    inputs = AutoTokenizer.from_pretrained(folder, **options)(PROMPT, return_tensors="pt")
    ids = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)[0]
    return list(ids[inputs.input_ids.shape[1] :].tolist())


def run(engine: Engine, *settings: str, prompt: str = PROMPT, tokens: int = NEW_TOKENS, inspect: Inspect = MEASURE) -> Trace:
    config = RunConfig().set([*settings, f"run.max_new_tokens={tokens}"])
    return record(engine.run(RunRequest(config, prompt, chat=False, inspect=inspect)))


def ids(trace: Trace) -> list[int]:
    return [token.id for token in trace.tokens]


@pytest.mark.parametrize("settings", LOSSLESS, ids=lambda settings: " ".join(settings) or "plain")
def test_that_exact_settings_give_the_tokens_of_transformers(
    engine: Engine, expected: list[int], settings: tuple[str, ...]
) -> None:
    assert ids(run(engine, *FULL_PRECISION, *settings)) == expected


def test_that_speculation_in_the_files_own_format_changes_no_token_and_saves_passes(engine: Engine) -> None:
    plain = run(engine, prompt=COPYING, tokens=64)
    drafted = run(engine, "decoding.name=prompt_lookup", prompt=COPYING, tokens=64)
    assert ids(drafted) == ids(plain)
    assert len(drafted.steps) < len(plain.steps)


ROWS = [(family, name) for family, techniques in CATALOGUE.items() for name in techniques]


@pytest.mark.parametrize(("family", "name"), ROWS, ids=lambda value: value)
def test_that_every_technique_runs(engine: Engine, family: str, name: str) -> None:
    settings = (f"{family}.name={name}", *SETTINGS.get((family, name), ()))
    if (family, name) == DENSE_MODEL:
        with pytest.raises(BadInput, match="experts"):
            run(engine, *settings, tokens=8)
        return
    trace = run(engine, *settings, tokens=8)
    assert trace.finished is not None
    assert len(trace.tokens) == 8


def test_that_inspection_changes_no_token_and_records_what_it_says(engine: Engine) -> None:
    measured, inspected = run(engine, tokens=8), run(engine, tokens=8, inspect=INSPECT)
    assert ids(measured) == ids(inspected)
    info = inspected.started.info if inspected.started else None
    assert info is not None
    assert sorted(inspected.attention) == list(range(info.layers))
    for maps in inspected.attention.values():
        for seen in maps:
            assert abs(seen.weights.astype(float).sum(-1) - 1).max() < 2e-2
    assert all(token.probability is not None and token.top_ids is not None for token in inspected.tokens)
