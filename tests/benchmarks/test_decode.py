"""Decoding and loading of the default model against transformers, in the same run. `make bench` runs this.

The machine may be busy: rounds are interleaved, medians are compared, and figures are printed as ratios.
"""

from __future__ import annotations

from statistics import median
from time import perf_counter
from typing import Any

import pytest
import torch

from core.config import RunConfig
from core.engine.engine import Engine
from core.events import RunRequest
from core.models.default import DEFAULT_FILE
from core.models.find import resolve
from core.trace import Trace, record

PROMPT = "The history of the city begins with a small harbour, and the people who lived there"
TOKENS, ROUNDS = 64, 3


@pytest.fixture(scope="module")
def peer() -> Any:
    """The same file in transformers, as bfloat16, with its tokenizer."""
    transformers = pytest.importorskip("transformers")
    folder = resolve("default").parent
    options = {"gguf_file": DEFAULT_FILE}
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, **options)
    return model, transformers.AutoTokenizer.from_pretrained(folder, **options)


def ours(engine: Engine) -> Trace:
    config = RunConfig().set([f"run.max_new_tokens={TOKENS}", "run.ignore_eos=true"])
    return record(engine.run(RunRequest(config, PROMPT, chat=False)))


def theirs(peer: Any) -> float:
    """Tokens a second of `generate`."""
    model, tokenizer = peer
    inputs = tokenizer(PROMPT, return_tensors="pt")
    began = perf_counter()
    model.generate(**inputs, min_new_tokens=TOKENS, max_new_tokens=TOKENS, do_sample=False)
    return TOKENS / (perf_counter() - began)


def test_that_decoding_is_at_least_four_times_as_fast_as_transformers(peer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    engine = Engine()
    ours(engine), theirs(peer)
    pairs = [(ours(engine).finished.metrics["decode_tokens_per_s"], theirs(peer)) for _ in range(ROUNDS)]  # type: ignore[union-attr]
    ratio = median(mine / other for mine, other in pairs)
    with capsys.disabled():
        figures = [(round(mine, 1), round(other, 1)) for mine, other in pairs]
        print(f"\ndecode tok/s, ours and transformers bf16: {figures}; median ratio {ratio:.2f}")
    assert ratio >= 4


def test_that_loading_takes_under_three_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = []
    for _ in range(ROUNDS):
        loaded = ours(Engine()).loaded
        assert loaded is not None
        seconds.append(loaded.seconds)
    with capsys.disabled():
        print(f"\nload s: {[round(second, 2) for second in seconds]}")
    assert median(seconds) < 3
