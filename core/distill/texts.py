"""English to learn from: topics of Python's manual and docstrings of its library, nothing of the evaluation text."""

from __future__ import annotations

import ast
import random
import re
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path

import torch
from torch import Tensor

from core.calibration import calibration_topics, evaluation_text
from core.decoder.preparation import Preparation
from core.errors import BadInput
from core.quality.text import beginning

_BATCH = 512  # tokens
_LENGTHS = 256, 512  # of the sequences of a batch, in turns: short ones take less time
_WORTH = 400  # characters of a docstring that says more than how to call something
_PHRASE, _LINE = 8, 40  # words in a row, and characters of a line, that two texts do not share by chance
_TESTS = {"test", "tests", "idlelib", "lib2to3", "pydoc_data", "site-packages"}
_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def batches_of(preparation: Preparation, count: int) -> list[list[Tensor]]:
    """`count` batches of at most 512 tokens, in sequences [T] that begin as the model expects; the text again where it ends.

    Raises BadInput where Python came without its texts.
    """
    tokenizer, context = preparation.tokenizer, preparation.checkpoint.info.context or _BATCH
    tokens, start = tokenizer.encode("\n\n".join(texts()), special=False), beginning(tokenizer)
    if len(tokens) < _BATCH:
        raise BadInput("this Python has neither its manual nor the source of its library, which heads are trained on")
    text = cycle(tokens)
    lengths = (min(length, context) for length in cycle(_LENGTHS))
    return [
        [torch.tensor(start + list(islice(text, length - len(start)))) for _ in range(_BATCH // length)]
        for length in islice(lengths, count)
    ]


def texts() -> list[str]:
    """Topics and docstrings in an order of chance, always the same, without paragraphs that share a phrase with evaluation."""
    held_out = _telling(evaluation_text())
    found = [_unlike(text, held_out) for text in (*calibration_topics(), *_docstrings())]
    random.Random(0).shuffle(found)
    return found


def _unlike(text: str, held_out: set[str]) -> str:
    return "\n\n".join(part for part in text.split("\n\n") if held_out.isdisjoint(_telling(part)))


def _telling(text: str) -> set[str]:
    """Phrases, whatever stands between their words, and long lines."""
    words = re.findall(r"\w+", text.lower())
    phrases = {" ".join(words[at : at + _PHRASE]) for at in range(len(words) - _PHRASE + 1)}
    return phrases | {line.strip() for line in text.splitlines() if len(line.strip()) > _LINE}


def _docstrings() -> Iterator[str]:
    """Long ones of Python's own library."""
    library = Path(sysconfig.get_path("stdlib"))
    for file in sorted((*library.glob("*.py"), *library.glob("*/*.py"))):
        if _TESTS.isdisjoint(file.parts[-2:]):
            with suppress(OSError, SyntaxError, ValueError):
                tree = ast.parse(file.read_text(encoding="utf-8"))
                found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, _DOCUMENTED))
                yield from (text for text in found if text and len(text) > _WORTH)
