"""Perplexity, divergence and agreement against a plain computation, and how a measurement ends early or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from quality_harness import Twin, measured, named, request

from core.engine.engine import Engine
from core.errors import BadInput
from core.models.tokenizer import open_tokenizer
from core.quality.figures import figures, quality_json
from core.quality.request import NeedleOptions, NeedleRequest, QualityOptions, QualityRequest, options_from
from core.quality.results import QualityMeasured

pytestmark = pytest.mark.usefixtures("one_thread")
WINDOW = ("attention.name=window", "attention.window=8")


def _tokens(twin: Twin, count: int) -> list[int]:
    return open_tokenizer(twin.folder).encode(twin.text.read_text(), special=False)[:count]


def _mean(found: QualityMeasured, name: str) -> float:
    weights = [segment.tokens for segment in found.segments]
    return float(np.average([getattr(segment, name) for segment in found.segments], weights=weights))


def test_that_a_window_scores_as_plain_torch_does(twin: Twin) -> None:
    found = measured(twin, *WINDOW, tokens=200, context=200)
    tokens = _tokens(twin, 201)
    ours, base = (twin.logits(tokens[:-1], window).log_softmax(-1) for window in (8, 2**30))
    assert _mean(found, "nll") == pytest.approx(float(twin.nll(tokens, 8).mean()), abs=1e-5)
    assert _mean(found, "base_nll") == pytest.approx(float(twin.nll(tokens).mean()), abs=1e-5)
    assert _mean(found, "kl") == pytest.approx(float((base.exp() * (base - ours)).sum(-1).mean()), abs=1e-5)
    assert _mean(found, "same_top1") == pytest.approx(float((base.argmax(-1) == ours.argmax(-1)).double().mean()))


def test_that_the_transformers_engine_is_measured_too(engine: Engine, twin: Twin) -> None:
    events = list(engine.measure(request(twin, "engine.name=transformers", "weights.name=cast", tokens=200, context=200)))
    found = events[-1]
    assert isinstance(found, QualityMeasured)
    assert (found.config.engine.name, found.base.engine.name) == ("transformers", "local")
    assert _mean(found, "nll") == pytest.approx(float(twin.nll(_tokens(twin, 201)).mean()), abs=0.05)
    assert _mean(found, "kl") < 0.01


def test_that_every_token_but_the_first_is_scored_once_in_windows(twin: Twin) -> None:
    found = measured(twin, tokens=250, context=60)
    tokens = _tokens(twin, 251)
    windows = [twin.nll(tokens[first : first + 61]) for first in range(0, 250, 60)]
    assert sum(segment.tokens for segment in found.segments) == 250
    assert [segment.first for segment in found.segments] == [0, 60, 120, 180, 240]
    assert _mean(found, "nll") == pytest.approx(float(torch.cat(windows).mean()), abs=1e-5)


def test_that_a_stream_equals_one_window_for_full_attention(twin: Twin) -> None:
    stream = measured(twin, tokens=200, stream=True)
    window = measured(twin, tokens=200, context=200)
    assert figures(stream.segments)["perplexity"] == pytest.approx(figures(window.segments)["perplexity"], rel=1e-6)
    assert stream.base_context == window.base_context == 200


def test_that_a_stream_passes_the_context_through_a_rolling_cache(twin: Twin) -> None:
    found = measured(twin, "cache.name=rolling", "cache.window=32", tokens=600, stream=True)
    assert found.info.context == 256
    assert found.kv_tokens == 32
    assert _mean(found, "nll") == pytest.approx(float(twin.nll(_tokens(twin, 601), 32).mean()), abs=1e-4)


def test_that_past_its_context_the_base_reads_its_recent_half_again(twin: Twin) -> None:
    found = measured(twin, "cache.name=rolling", "cache.window=32", tokens=600, stream=True)
    tokens, held, rows = _tokens(twin, 601), [], []
    for first in range(0, 600, 128):
        chunk = tokens[first : min(600, first + 128)]
        held = held if len(held) + len(chunk) <= 256 else held[-128:]
        held = held + chunk
        rows.append(twin.logits(held)[-len(chunk) :].log_softmax(-1))
    chosen = -torch.cat(rows)[torch.arange(600), torch.tensor(tokens[1:])]
    assert found.base_context == 256
    assert _mean(found, "base_nll") == pytest.approx(float(chosen.mean()), abs=1e-5)


def test_that_the_unmodified_model_differs_from_itself_in_nothing(twin: Twin) -> None:
    found = figures(measured(twin, "cache.name=static", tokens=200, context=64).segments)
    assert found["mean_kl"] == pytest.approx(0, abs=1e-6)
    assert found["same_top1"] == 1
    assert found["perplexity_ratio"] == pytest.approx(1, abs=1e-6)


def test_that_the_prompt_of_a_window_is_read_and_not_scored(twin: Twin) -> None:
    found = measured(twin, *WINDOW, tokens=250, context=100, prompt_tokens=30)
    tokens = _tokens(twin, 251)
    windows = [twin.nll(tokens[first : first + 101], 8)[30:] for first in range(0, 250, 100)]
    assert sum(segment.tokens for segment in found.segments) == 70 + 70 + 20
    assert _mean(found, "nll") == pytest.approx(float(torch.cat(windows).mean()), abs=1e-5)


def test_that_a_cache_which_condenses_prompts_is_measured_after_one(twin: Twin) -> None:
    found = measured(twin, "cache.name=snapkv", "cache.budget=16", "cache.window=8", tokens=200, context=200)
    assert found.prompt_tokens == 100
    assert sum(segment.tokens for segment in found.segments) == 100
    assert found.kv_tokens < 200
    assert _mean(found, "kl") > 1e-4


def test_that_progress_counts_tokens_and_ends_with_the_result(engine: Engine, twin: Twin) -> None:
    events = list(engine.measure(request(twin, tokens=100, context=40)))
    assert named(events)[-4:] == ["QualityProgress"] * 3 + ["QualityMeasured"]
    assert [(event.done, event.total) for event in events[-4:-1]] == [(40, 100), (80, 100), (100, 100)]  # type: ignore[union-attr]
    assert events[-2].so_far == pytest.approx(figures(events[-1].segments)["perplexity"])  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [QualityRequest, NeedleRequest])
def test_that_a_stopped_measurement_just_ends(engine: Engine, twin: Twin, kind: Any) -> None:
    options = {"tokens": 600, "context": 40} if kind is QualityRequest else {"lengths": "200", "trials": 50}
    asked = kind(twin.config(*WINDOW), str(twin.text), (QualityOptions if kind is QualityRequest else NeedleOptions)(**options))
    events, said = engine.measure(asked, lambda: len(said) >= 3), []
    while (event := next(events, None)) is not None:
        said.append(event)
    assert said
    assert not {"QualityMeasured", "NeedleMeasured"} & set(named(said))
    assert len(said) < 8


def test_that_the_record_holds_what_was_promised(twin: Twin) -> None:
    record = quality_json(measured(twin, *WINDOW, tokens=300, context=100))
    promised = {"perplexity", "perplexity_se", "base_perplexity", "mean_kl", "mean_kl_se", "same_top1", "tokens"}
    assert promised < record.keys()
    assert all(record[name] is not None for name in promised)
    assert record["tokens"] == 300
    assert record["badges"]["same_top1"] == "measured"
    assert record["badges"]["perplexity"] == "derived"
    assert sum(segment["tokens"] for segment in record["segments"]) == 300


@pytest.mark.parametrize(
    ("settings", "options", "words"),
    [
        ((), {"context": 300}, "300 tokens are more than the context"),
        ((), {"context": 3}, "3 is too few tokens"),
        ((), {"context": 100, "prompt_tokens": 100}, "leave nothing to score of 100"),
        (("engine.name=transformers",), {"stream": True, "tokens": 600}, "the transformers engine cannot do"),
        (("decoding.name=prompt_lookup", "cache.name=rolling"), {}, "cannot|overwritten"),
    ],
)
def test_that_what_does_not_fit_is_refused(
    engine: Engine, twin: Twin, settings: tuple[str, ...], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        list(engine.measure(request(twin, *settings, **options)))


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b"  \n", "empty"), (b"\xff\xfe\x00", "cannot be read"), (b"a", "at least two")],
)
def test_that_a_file_without_text_is_refused(
    engine: Engine, twin: Twin, tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=words):
        list(engine.measure(QualityRequest(twin.config(), str(path))))


def test_that_options_out_of_range_are_refused() -> None:
    with pytest.raises(BadInput, match=r"quality.tokens: 1 is out of range"):
        options_from(QualityOptions, {"tokens": 1})
    assert options_from(QualityOptions, {"tokens": None}) == QualityOptions()
