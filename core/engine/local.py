"""The local engine: this program's own decoder with a configuration's techniques applied."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from core.attention.mask import Reach
from core.cache.base import Cache, Layout
from core.cache.off import Off
from core.config import RunConfig
from core.decoder.build import build
from core.decoder.model import Decoder
from core.decoder.plan import plan_of
from core.decoder.probe import Probe
from core.engine.backend import Backend, Progress, Session
from core.models.find import open_checkpoint
from core.models.info import ModelInfo
from core.models.tokenizer import Tokenizer


class LocalBackend(Backend):
    """A built decoder, its tokenizer and its KV format."""

    def __init__(self, info: ModelInfo, tokenizer: Tokenizer, decoder: Decoder, kv_dtype: torch.dtype) -> None:
        self.info, self.tokenizer, self.decoder, self.kv_dtype = info, tokenizer, decoder, kv_dtype
        self.weight_bytes = decoder.nbytes

    @classmethod
    def load(cls, config: RunConfig, progress: Progress) -> LocalBackend:
        progress("reading", 0, 1)
        checkpoint = open_checkpoint(config.model)
        plan = plan_of(checkpoint)
        progress("tokenizer", 0, 1)
        tokenizer = Tokenizer.of(checkpoint)
        for family in ("heads", "ffn"):
            choice = config.choice(family)
            progress(family, 0, 1)
            choice.technique.load()(choice.options, plan)
        weights = config.weights.technique.load()(config.weights.options, plan)
        return cls(checkpoint.info, tokenizer, build(plan, weights, progress), weights.kv_dtype)

    def session(self, config: RunConfig, capacity: int, probe: Probe) -> LocalSession:
        heads = tuple(block.attention.kv_heads for block in self.decoder.blocks)
        layout = Layout(heads, self.decoder.traits.head_size, capacity, self.kv_dtype)
        cache = config.cache.technique.load()(config.cache.options, layout)
        reaches = config.attention.technique.load()(config.attention, self.decoder.traits.layers)
        return LocalSession(self.decoder, cache, reaches, probe)


class LocalSession(Session):
    """One sequence on the local decoder."""

    def __init__(self, decoder: Decoder, cache: Cache, reaches: Sequence[Reach], probe: Probe) -> None:
        self.decoder, self.cache, self.reaches, self.probe = decoder, cache, reaches, probe
        self.rewindable = cache.rewindable
        self._all: list[int] = []  # every token fed, for the passes of a cache that keeps nothing

    def forward(self, tokens: Sequence[int], all_logits: bool = False) -> torch.Tensor:
        self._all.extend(tokens)
        fed = self._all if isinstance(self.cache, Off) else tokens
        with torch.inference_mode():
            hidden = self.decoder.forward(torch.tensor(fed), self.cache, self.reaches, self.probe)
            return self.decoder.logits(hidden[-len(tokens) :] if all_logits else hidden[-1:], self.probe)

    @property
    def length(self) -> int:
        return len(self._all)

    def trim(self, length: int) -> None:
        self.cache.trim(length)
        del self._all[length:]

    @property
    def kv_bytes(self) -> int:
        return self.cache.nbytes

    @property
    def kv_tokens(self) -> int:
        return self.cache.tokens
