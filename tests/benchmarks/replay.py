"""An engine that replays a made-up run at a set pace, in a real engine process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from time import perf_counter, sleep

import numpy as np

from core.config import RunConfig
from core.events import (
    INSPECT,
    AttentionCaptured,
    CaptureEnded,
    Event,
    Loaded,
    LoadProgress,
    PrefillProgress,
    RunRequest,
    Step,
    TextDelta,
)
from tests.traces import INFO, make_trace

PACE = 1000  # tokens a second
HEADS = INFO.query_heads


class Engine:
    """Replays as many tokens as the request asks for, with alternatives and the attention of layer 0."""

    def run(self, request: RunRequest, stop: Callable[[], bool]) -> Iterator[Event]:
        events = recorded(request.config.run.max_new_tokens)
        began, tokens = perf_counter(), 0
        for event in events:
            if isinstance(event, Step):
                tokens += len(event.tokens)
                sleep(max(0.0, began + tokens / PACE - perf_counter()))
            yield event
            if stop():
                return


@cache
def recorded(tokens: int) -> tuple[Event, ...]:
    """The events of a run of so many tokens, whose capture ends when the budget is spent, as an engine gives them."""
    return tuple(_events(tokens))


def _events(tokens: int) -> Iterator[Event]:
    base = make_trace()
    assert base.started is not None
    config = RunConfig().set([f"run.max_new_tokens={tokens}"])
    inspect = replace(INSPECT, attention_layers="0")
    prompt = len(base.prompt_tokens)
    yield LoadProgress("reading", 1, 1)
    yield Loaded(INFO, 0.8, 96_640_544)
    yield replace(base.started, config=config, info=replace(INFO, context=2**16), inspect=inspect)
    yield PrefillProgress(prompt, prompt, 41.0)
    yield base.attention[0][0]
    rows, left = _rows(prompt + tokens), INSPECT.budget
    for index in range(tokens):
        keys = prompt + index
        if index and left > 0:
            captured = AttentionCaptured(index - 1, 0, keys - 1, rows[:, None, :keys].copy(), np.arange(keys, dtype=np.int32))
            left -= captured.weights.nbytes
            yield captured if left > 0 else CaptureEnded(index - 1, "the capture budget is spent")
        yield from _decoded(base.steps[1 + index % (len(base.steps) - 1)], index, keys)
    assert base.finished is not None
    yield replace(base.finished, reason="length")


def _rows(keys: int) -> np.ndarray:
    """Weights [H, S] of a row that looks most at its beginning."""
    weights = 1 / np.arange(1, keys + 1) * np.ones((HEADS, 1))
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float16)


def _decoded(like: Step, index: int, position: int) -> Iterator[Event]:
    token = replace(like.tokens[0], index=position)
    yield replace(like, index=index - 1, tokens=(token,), kv_tokens=position, kv_bytes=position * INFO.kv_bytes_per_token(2))
    yield TextDelta(token.text)
