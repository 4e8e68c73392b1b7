"""Plain English that every Python brings along: topics of its manual, some to calibrate with, the others to evaluate on."""

from __future__ import annotations

from core.models.tokenizer import Tokenizer

_EXCERPT = 2000  # characters of a topic
_TELLING = 50  # characters of a line that two topics do not share by chance
_STRIDE = 7  # topics are taken evenly over the alphabet
_CALIBRATING = 5  # of so many; the other topics are held out


def calibration_tokens(tokenizer: Tokenizer, count: int) -> list[int]:
    """Up to `count` tokens from the beginnings of topics, for techniques that must see a model at work before they change it.

    No line of `evaluation_text` is among them: topics quote each other, and those that quote a held-out one are left out.
    """
    tokens: list[int] = []
    held_out = frozenset(evaluation_text().splitlines())
    for topic in calibration_topics():
        excerpt = topic[:_EXCERPT]
        if len(tokens) >= count:
            break
        if not any(len(line) > _TELLING and line in held_out for line in excerpt.splitlines()):
            tokens += tokenizer.encode(excerpt + "\n\n", special=not tokens)
    return tokens[:count]


def calibration_topics() -> list[str]:
    """Whole topics that are not held out; some quote lines of topics that are."""
    return _topics(0, _CALIBRATING)


def evaluation_text() -> str:
    """The whole text of the topics that calibration never sees, about 40,000 tokens."""
    return "\n\n".join(_topics(_CALIBRATING, _STRIDE))


def _topics(first: int, last: int) -> list[str]:
    from pydoc_data.topics import topics

    return [topics[name] for start in range(first, last) for name in sorted(topics)[start::_STRIDE]]
