"""Prefill and decode of one model in one format of weights, for each batch size and context of the grid."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core.attention.mask import FULL
from core.bench.gpu.shapes import random_plan
from core.cache.base import Layout
from core.config import RunConfig
from core.cuda.build import build_on
from core.cuda.span import Span
from core.cuda.speed import timings
from core.cuda.steps import Steps
from core.cuda.store import Store, Stores, bucket
from core.decoder.probe import Probe

FORMATS = {
    "FP16": ("weights.name=cast", "weights.dtype=float16"),
    "W8A16": ("weights.name=rtn", "weights.bits=8", "weights.group_size=128"),
    "W4A16": ("weights.name=rtn", "weights.bits=4", "weights.group_size=128"),
}
_TIMES = 3  # of each measurement, after one that is not counted


@dataclass(frozen=True)
class Times:
    """Medians in seconds: of a whole prefill, and of a step of one token for each sequence.

    step_bytes: of weights, keys and values that a step reads, on average.
    """

    prefill: float
    step: float
    step_bytes: float


class GridModel:
    """A model of random weights on `device`."""

    def __init__(self, config: dict[str, Any], weights: str, device: torch.device) -> None:
        self.device = device
        choice = RunConfig().set(FORMATS[weights]).weights
        self.decoder = build_on(device, random_plan(config, device), choice, lambda *_: None)
        self.steps = Steps(self.decoder, device)
        self.patterns = (FULL,) * self.decoder.traits.layers

    @torch.inference_mode()
    def measure(self, batch: int, context: int, tokens: int) -> Times | None:
        """`tokens` steps after a prompt of `context` tokens in each of `batch` sequences; None where memory does not do."""
        try:
            return self._measured(batch, context, tokens)
        except torch.OutOfMemoryError:
            return None
        finally:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _measured(self, batch: int, context: int, tokens: int) -> Times:
        traits = self.decoder.traits
        layout = Layout((traits.kv_heads,) * traits.layers, traits.head_size, context + tokens, self.decoder.kv_dtype)
        stores = Stores(self.decoder.decoder.ropes, self.device)
        store = stores.take(self, layout, bucket(context + tokens), batch)
        fed = torch.arange(batch * context, device=self.device).view(batch, context) * 7919 % traits.vocabulary
        prefill = timings(lambda: self.prefill(store, fed), self.device, _TIMES)
        steps = timings(lambda: self.decode(store, context, tokens), self.device, _TIMES)
        read = self.decoder.decoder.active_nbytes + batch * layout.token_nbytes * (context + (tokens + 1) / 2)
        return Times(statistics.median(prefill), statistics.median(steps) / tokens, read)

    def prefill(self, store: Store, fed: Tensor) -> None:
        """The whole prompt [B, T] in one pass; the likeliest next tokens are what the next step is fed."""
        span = Span(torch.arange(fed.shape[1], device=self.device), fed.shape[1], last=True)
        hidden = self.decoder.hidden(fed, store, span, self.patterns, Probe())
        logits = self.decoder.logits(hidden.view(*fed.shape, -1)[:, -1], Probe())
        store.tokens[:, 0] = logits.argmax(dim=-1)

    def decode(self, store: Store, context: int, tokens: int) -> None:
        """Greedy steps of one token, without a word from the host; the last token of each sequence is the next to feed."""
        store.length.fill_(context)
        for end in range(context + 1, context + tokens + 1):
            self.steps.repeat(store, 1, end, self.patterns)
            self.steps.go_on(store)


def end_to_end(times: Times, new_tokens: int) -> float:
    """Seconds of a prompt and `new_tokens` tokens, the first of which the prompt yields."""
    return times.prefill + (new_tokens - 1) * times.step


def cells(batches: Sequence[int], contexts: Sequence[int]) -> list[tuple[int, int]]:
    """Batch sizes and contexts, the small ones first."""
    return [(batch, context) for batch in batches for context in contexts]
