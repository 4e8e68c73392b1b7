"""Needles: where they lie, what is asked, and how an answer counts, against transformers."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch
from quality_harness import Twin

from core.calibration import calibration_tokens, evaluation_text
from core.engine.engine import Engine, never
from core.engine.watch import Watch
from core.errors import BadInput
from core.models.tokenizer import open_tokenizer
from core.quality.needle import ask, hide
from core.quality.request import NeedleOptions, NeedleRequest
from core.quality.results import NeedleMeasured
from core.quality.text import text_tokens

pytestmark = pytest.mark.usefixtures("one_thread")


def _needle(twin: Twin, length: int = 200, depth: int = 50):
    tokenizer = open_tokenizer(twin.folder)
    filler = tokenizer.encode(twin.text.read_text(), special=False)
    return tokenizer, hide(filler, tokenizer, length, depth, Random(3))


@pytest.mark.parametrize("depth", [0, 50, 100])
def test_that_the_prompt_has_its_length_and_holds_the_fact_once(twin: Twin, depth: int) -> None:
    tokenizer, needle = _needle(twin, 240, depth)
    text = tokenizer.decode(needle.prompt)
    assert len(needle.prompt) == 240
    assert text.count(needle.number) == 1
    assert text.rstrip().endswith(" is")
    assert tokenizer.decode(needle.answer).strip() == needle.number


def test_that_the_needle_lies_after_a_sentence_near_its_depth(twin: Twin) -> None:
    places = []
    for depth in (0, 40, 80, 100):
        tokenizer, needle = _needle(twin, 250, depth)
        before, _, after = tokenizer.decode(needle.prompt).partition(" The secret number")
        assert not before or before.rstrip(" ").endswith((".", "\n"))
        assert "Question: What is" in after
        places.append(len(before))
    assert places == sorted(places)
    assert places[0] == 0


@pytest.mark.parametrize("cache", ["dynamic", "rolling"])
def test_that_an_answer_scores_as_transformers_says(twin: Twin, cache: str) -> None:
    tokenizer, needle = _needle(twin)
    settings = ["cache.name=rolling", "cache.window=256"] if cache == "rolling" else []
    found, log_probability = ask(twin.backend, twin.exact(*settings, "run.prefill_chunk=64"), needle, Watch(never))
    rows = twin.logits([*needle.prompt, *needle.answer[:-1]])[-len(needle.answer) :].log_softmax(-1)
    chosen = rows[torch.arange(len(needle.answer)), torch.tensor(needle.answer)]
    assert log_probability == pytest.approx(float(chosen.mean()), abs=1e-5)
    greedy = twin.model.generate(torch.tensor([needle.prompt]), max_new_tokens=len(needle.answer) + 8, do_sample=False)[0]
    assert found == float(needle.number in tokenizer.decode(greedy[len(needle.prompt) :].tolist()))


def test_that_a_sweep_fills_its_grid(engine: Engine, twin: Twin) -> None:
    asked = NeedleRequest(twin.config(), str(twin.text), NeedleOptions("240,200", "50,0", 2))
    *progress, last = engine.measure(asked)
    assert isinstance(last, NeedleMeasured)
    assert (last.lengths, last.depths, last.trials) == ((200, 240), (0, 50), 2)
    assert last.recall.shape == last.log_probability.shape == (2, 2)
    assert np.isfinite(last.log_probability).all()
    assert (last.log_probability < 0).all()
    assert progress[-1].done == progress[-1].total == 2 * 2 * 440  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lengths": "many"}, "no list of whole numbers from 64"),
        ({"depths": "0,101"}, "from 0 to 100"),
        ({"lengths": "256"}, "do not fit the context"),
        ({"lengths": "100"}, "leave no room"),
    ],
)
def test_that_a_grid_that_does_not_fit_is_refused(engine: Engine, twin: Twin, options: dict[str, str], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        list(engine.measure(NeedleRequest(twin.config(), str(twin.text), NeedleOptions(**options))))


def test_that_nothing_is_evaluated_on_what_was_calibrated_with() -> None:
    class Words:
        def encode(self, text: str, *, special: bool) -> list[str]:
            return text.split("\n")

    lines = {line for line in calibration_tokens(Words(), 10**9) if len(line) > 50}  # type: ignore[arg-type]
    held_out = evaluation_text()
    assert len(lines) > 300
    assert not lines & set(held_out.splitlines())
    assert len(held_out) > 100_000


def test_that_the_beginning_of_a_text_gives_the_tokens_of_the_whole(twin: Twin) -> None:
    tokenizer, text = open_tokenizer(twin.folder), twin.text.read_text()
    whole = tokenizer.encode(text, special=False)
    info = twin.backend.info
    assert text_tokens(text, tokenizer, info, 50) == whole[:50]
    assert text_tokens(text, tokenizer, info, 10**6) == whole
