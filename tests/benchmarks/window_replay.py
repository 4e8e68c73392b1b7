"""Stands in for the engine in a real engine process: the recorded run, made longer, at a thousand tokens a second.

Every event is one that the engine gives for the default model with Inspect on, and the capture budget holds as there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from core import trace_file
from core.events import AttentionCaptured, CaptureEnded, Event, RunFinished, RunRequest, Step, TextDelta, Token
from core.trace import Trace

SAMPLE = Path(__file__).resolve().parents[2] / "assets" / "sample.trace"
WINDOW = 48  # keys of a query where the prompt asks for a sliding window, whose capture goes on for the whole run


class Engine:
    """The prompt says how many tokens come a second, and what of attention is captured with them.

    `full`: every key, until the budget is spent; `window`: the last keys, in every pass; `none`. Such as `full 1000`.
    """

    def __init__(self) -> None:
        self._sample = trace_file.load(SAMPLE)
        self._weights = np.random.default_rng(0).dirichlet(np.ones(256), (30, 9)).astype(np.float16)[:, :, None]

    def run(self, request: RunRequest, stop: Callable[[], bool]) -> Iterator[Event]:
        sample, count = self._sample, request.config.run.max_new_tokens
        assert sample.started is not None
        assert sample.finished is not None
        yield replace(sample.started, config=request.config, prompt=request.prompt, inspect=request.inspect)
        yield from sample.prefill
        capture, rate = request.prompt.split()
        left, gap = request.inspect.budget if capture != "none" else -1, 1 / int(rate)
        began = time.perf_counter()
        for index in range(count):
            time.sleep(max(0.0, began + index * gap - time.perf_counter()))
            if stop():
                break
            yield from self._token(sample, index, 1000 * gap, request.inspect.top > 0)
            keys = WINDOW if capture == "window" else len(sample.prompt_tokens) + index
            size = self._weights[..., 0].size * 2 * keys
            if left >= size:
                yield from self._attention(index, len(sample.prompt_tokens) + index, keys)
            elif left > -1:
                yield CaptureEnded(index - 1, "the capture budget is spent; attention is no longer kept")
            left = left - size if left >= size else -1
        yield self._finished(sample.finished, index, began)

    def _token(self, sample: Trace, index: int, ms: float, inspected: bool) -> Iterator[Event]:
        step = sample.steps[index % len(sample.steps) if index else 0]
        token = replace(step.tokens[0], index=len(sample.prompt_tokens) + index, ms=ms)
        if not inspected:
            token = Token(token.index, token.id, token.text, token.source, ms)
        yield Step(index - 1, (token,), ms, step.phases, token.index, token.index * 46_080)
        yield TextDelta(token.text)

    def _attention(self, index: int, position: int, count: int) -> Iterator[Event]:
        keys = np.arange(position + 1 - count, position + 1, dtype=np.int32)
        weights = np.tile(self._weights, -(-count // 256))[..., :count]
        for layer, one in enumerate(weights):
            yield AttentionCaptured(index - 1, layer, position, one, keys)

    def _finished(self, finished: RunFinished, index: int, began: float) -> RunFinished:
        speed = index / (time.perf_counter() - began)
        return replace(finished, reason="length", metrics=finished.metrics | {"decode_tokens_per_s": speed})
