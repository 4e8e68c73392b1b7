"""Plain English that every Python brings along, for techniques that must see a model at work before they change it."""

from __future__ import annotations

from core.models.tokenizer import Tokenizer

_EXCERPT = 2000  # characters of a topic


def calibration_tokens(tokenizer: Tokenizer, count: int) -> list[int]:
    """`count` tokens from the beginnings of topics of Python's manual, taken evenly over the alphabet."""
    from pydoc_data.topics import topics

    stride = 7
    names = [name for first in range(stride) for name in sorted(topics)[first::stride]]
    tokens: list[int] = []
    for name in names:
        if len(tokens) >= count:
            break
        tokens += tokenizer.encode(topics[name][:_EXCERPT] + "\n\n", special=not tokens)
    return tokens[:count]
