"""Which tokens are read together, which are scored, and in which segments. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from core.errors import BadInput
from core.models.info import ModelInfo
from core.quality.request import LEAST_CONTEXT, USUAL_CONTEXT, QualityRequest

_SEGMENTS = 32  # of a stream; also the fewest that windows are split into
_CONDENSE = ("snapkv",)  # caches that lose nothing until a prompt has ended
_LEAST_SEGMENT = 64  # tokens: the batch within which tokens may depend on each other


@dataclass(frozen=True)
class Stretch:
    """What is read in one session: after each of `inputs` comes the token of `targets` in its place."""

    inputs: Sequence[int]
    targets: Sequence[int]


def stretches(tokens: Sequence[int], start: Sequence[int], context: int) -> Iterator[Stretch]:
    """Windows of up to `context` inputs that together score every token once.

    start: what the model expects before a text, at most one token. Without it the very first token is not scored.
    """
    targets = tokens if start else tokens[1:]
    before = [*start, *tokens][: len(targets)]
    for first in range(0, len(targets), context):
        inputs = before[first : first + context]
        yield Stretch([*start, *inputs[len(start) :]], targets[first : first + context])


def chunks(length: int, prompt: int, most: int) -> Iterator[slice]:
    """`length` tokens in pieces of up to `most`; one piece ends where the prompt does."""
    for begin, end in ((0, prompt), (prompt, length)):
        for first in range(begin, end, most):
            yield slice(first, min(end, first + most))


def contexts(request: QualityRequest, info: ModelInfo, scored: int) -> tuple[int, int]:
    """Tokens that the configuration's session, and the unmodified model's, hold at most. Raises BadInput."""
    options = request.options
    for name, value in (("context", options.context), ("base_context", options.base_context)):
        if 0 < value < LEAST_CONTEXT:
            raise BadInput(
                f"quality.{name}: {value} is too few tokens; give at least {LEAST_CONTEXT}, or 0 for the usual number"
            )
        if value > info.context:
            raise BadInput(f"quality.{name}: {value} tokens are more than the context of {info.name}, which is {info.context}")
    if not options.stream:
        context = min(scored, options.context or min(USUAL_CONTEXT, info.context))
        return context, context
    if scored > info.context and request.config.engine.name != "local":
        raise BadInput(
            f"quality.tokens: a stream of {scored} tokens passes the context of {info.name}, {info.context}, which the "
            f"{request.config.engine.name} engine cannot do; use engine.name=local, or windows"
        )
    return scored, min(scored, options.base_context or info.context)


def prompt_of(request: QualityRequest, context: int) -> int:
    """Tokens at the beginning of each window that are a prompt. Raises BadInput where they leave nothing to score."""
    usual = context // 2 if request.config.cache.name in _CONDENSE else 0
    prompt = request.options.prompt_tokens or usual
    if prompt >= context:
        raise BadInput(f"quality.prompt_tokens: {prompt} leave nothing to score of {context} tokens; give fewer")
    return prompt


def segment_bounds(scored: int, context: int, stream: bool) -> list[tuple[int, int]]:
    """First and last + 1 of each segment: of even size within a window, at least 64 tokens where the window has them."""
    windows = -(-scored // context)
    parts = _SEGMENTS if stream else -(-_SEGMENTS // windows)
    return [bounds for first in range(0, scored, context) for bounds in _even(first, min(scored, first + context), parts)]


def _even(first: int, last: int, parts: int) -> list[tuple[int, int]]:
    parts = max(1, min(parts, (last - first) // _LEAST_SEGMENT))
    edges = [first + (last - first) * part // parts for part in range(parts + 1)]
    return list(pairwise(edges))
