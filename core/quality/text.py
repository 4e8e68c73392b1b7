"""The text that quality is measured on, and its tokens."""

from __future__ import annotations

import platform
from pathlib import Path

from core.calibration import evaluation_text
from core.errors import BadInput
from core.models.info import ModelInfo
from core.models.tokenizer import Tokenizer

_CHARACTERS = 8  # read at first for each token wanted: more than a token has in most texts


def read_text(path: str) -> tuple[str, str]:
    """Text and name of the file at `path`; the default text for "". Raises BadInput when there is no text in it."""
    if not path:
        return evaluation_text(), f"manual of Python {platform.python_version()}, topics that calibration does not see"
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: the text cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not text.strip():
        raise BadInput(f"{path}: the text is empty; give a file of plain UTF-8 text")
    return text, Path(path).name


def text_tokens(text: str, tokenizer: Tokenizer, info: ModelInfo, most: int) -> list[int]:
    """The first tokens of `text`, `most` at most, without special ones. No more of a long text is read than that takes."""
    characters = _CHARACTERS * most
    while len(tokens := tokenizer.encode(text[:characters], special=False)) <= most and characters < len(text):
        characters *= 2
    tokens = tokens[:most]
    if max(tokens, default=0) >= info.vocabulary:
        raise BadInput(f"the tokenizer gives the id {max(tokens)}, and {info.name} knows the ids 0 to {info.vocabulary - 1}")
    return tokens


def beginning(tokenizer: Tokenizer) -> list[int]:
    """What the model expects before a text: its BOS token, or nothing."""
    return [token for token in tokenizer.encode("", special=True)[:1] if token == tokenizer.bos_id]
