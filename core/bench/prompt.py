"""The text that every engine reads: a paragraph, said again until it is long enough."""

from __future__ import annotations

from pathlib import Path

from core.models.tokenizer import open_tokenizer

_TEXT = (
    "The history of the city begins with a small harbour, and the people who lived there built boats of oak, caught herring "
    "in autumn, and sold salt to the villages inland. After the great storm of 1634 the council moved the market behind the "
    "dike; a clock tower followed, then a school, and at last a bridge of seven arches. Travellers wrote home about the "
    "light on the water, the price of bread, and the bells that rang twice each hour.\n"
)


def prompt_ids(model: Path, count: int) -> list[int]:
    """The first `count` token ids of the text for the model at this path."""
    tokenizer = open_tokenizer(model)
    once = len(tokenizer.encode(_TEXT, special=False))
    return tokenizer.encode(_TEXT * (count // max(1, once - 1) + 2))[:count]
