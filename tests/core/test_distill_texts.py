"""Texts to learn from: plenty, in batches of one size, and nothing of what quality is measured on."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from core.calibration import evaluation_text
from core.decoder.preparation import Preparation
from core.distill.texts import batches_of, texts


@pytest.fixture(scope="module")
def found() -> list[str]:
    return texts()


def test_that_there_is_plenty_and_always_the_same(found: list[str]) -> None:
    assert sum(map(len, found)) > 500_000
    assert texts() == found


def test_that_no_long_line_and_no_sentence_of_the_evaluation_text_is_among_them(found: list[str]) -> None:
    paragraphs = [" ".join(re.findall(r"\w+", part)) for text in found for part in text.split("\n\n")]
    lines = {line.strip() for text in found for line in text.splitlines()}
    evaluation = evaluation_text()
    assert not [line for line in evaluation.splitlines() if len(line) > 50 and line.strip() in lines]
    sentences = {" ".join(re.findall(r"\w+", one)) for one in " ".join(evaluation.split()).split(". ")}
    long = {sentence for sentence in sentences if sentence.count(" ") >= 12}
    assert len(long) > 500
    whole = "\n".join(paragraphs)
    assert not [sentence for sentence in long if sentence in whole]


@pytest.mark.parametrize(("context", "lengths"), [(2048, [256, 256, 512, 256, 256]), (128, [128] * 12)])
def test_that_every_batch_has_as_many_tokens(context: int, lengths: list[int]) -> None:
    tokenizer: Any = SimpleNamespace(
        encode=lambda text, special: [1] if special else [3 + ord(one) % 50 for one in text], bos_id=1
    )
    checkpoint: Any = SimpleNamespace(info=SimpleNamespace(context=context))
    batches = batches_of(Preparation(checkpoint, tokenizer, lambda *_: None), 3)
    assert [len(tokens) for batch in batches for tokens in batch] == lengths
    assert {int(tokens[0]) for batch in batches for tokens in batch} == {1}
    assert int(batches[0][0][1]) != 1
