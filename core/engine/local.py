"""The local engine: this program's own decoder with a configuration's techniques applied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from core.attention.context import Context
from core.attention.mechanism import mechanisms
from core.cache.base import Layout
from core.cache.off import Off
from core.config import RunConfig
from core.decoder.build import Weights, build
from core.decoder.fused.prompt import Prompt
from core.decoder.fused.runner import Fused
from core.decoder.fused.runner import enabled as fused_enabled
from core.decoder.model import Decoder
from core.decoder.plan import plan_of
from core.decoder.preparation import Preparation
from core.decoder.probe import Probe
from core.decoder.sites import sites_of
from core.engine.backend import Backend, Progress, Session
from core.models.find import open_checkpoint
from core.models.info import ModelInfo
from core.models.tokenizer import Tokenizer
from core.weights.store import Stored

_FUSED_ROWS = 64  # up to here passes of a few rows through packed weights beat unpacking them


class LocalBackend(Backend):
    """A built decoder, its tokenizer and its KV format."""

    def __init__(self, info: ModelInfo, tokenizer: Tokenizer, decoder: Decoder, kv_dtype: torch.dtype) -> None:
        self.info, self.tokenizer, self.decoder, self.kv_dtype = info, tokenizer, decoder, kv_dtype
        self.weight_bytes = decoder.nbytes
        self.fused = Fused.of(decoder) if fused_enabled() else None
        self.prompt = Prompt.of(decoder) if fused_enabled() else None

    @property
    def pass_bytes(self) -> int:
        return self.decoder.active_nbytes

    @classmethod
    def load(cls, config: RunConfig, progress: Progress) -> LocalBackend:
        progress("reading", 0, 1)
        checkpoint = open_checkpoint(config.model)
        plan = plan_of(checkpoint)
        progress("tokenizer", 0, 1)
        tokenizer = Tokenizer.of(checkpoint)
        preparation = Preparation(checkpoint, tokenizer, progress)
        for family in ("heads", "ffn"):
            choice = config.choice(family)
            progress(family, 0, 1)
            choice.technique.load()(choice.options, plan, preparation)
        technique: Weights = config.weights.technique.load()(config.weights.options, plan)
        stored = Stored.of(technique, config, Path(checkpoint.info.path))
        backend = cls(checkpoint.info, tokenizer, build(plan, stored or technique, progress), technique.kv_dtype)
        if stored is not None:
            progress("keeping", 0, 1)
            stored.save()
        backend._warm(config, progress)
        return backend

    def _warm(self, config: RunConfig, progress: Progress) -> None:
        """Compile what passes call, so that no run pays for it."""
        progress("kernels", 0, 1)
        self.session(config, 1, Probe()).forward([0])

    def session(self, config: RunConfig, capacity: int, probe: Probe) -> LocalSession:
        found = mechanisms(config.attention, sites_of(self.decoder, capacity, self.kv_dtype, self.info))
        heads = tuple(mechanism.site.kv_heads if mechanism.stores else 0 for mechanism in found)
        ropes = tuple(block.attention.rope for block in self.decoder.blocks)
        layout = Layout(heads, self.decoder.traits.head_size, capacity, self.kv_dtype, ropes=ropes)
        cache = config.cache.technique.load()(config.cache.options, layout)
        return LocalSession(self.decoder, Context(cache, found), probe, self.fused, self.prompt)


class LocalSession(Session):
    """One sequence on the local decoder."""

    def __init__(
        self, decoder: Decoder, context: Context, probe: Probe, fused: Fused | None = None, prompt: Prompt | None = None
    ) -> None:
        self.decoder, self.context, self.probe = decoder, context, probe
        self.fused, self.prompt = fused, prompt
        self.rewindable = context.rewindable
        self._all: list[int] = []  # every token fed, for the passes of a cache that keeps nothing

    def forward(self, tokens: Sequence[int], all_logits: bool = False) -> torch.Tensor:
        self._all.extend(tokens)
        fed = torch.tensor(self._all if isinstance(self.context.cache, Off) else tokens)
        with torch.inference_mode():
            if self.fused is not None and len(fed) <= _FUSED_ROWS:
                return self.fused.forward(fed, self.context, self.probe, len(tokens) if all_logits else 1)
            hidden = self._hidden(fed)
            return self.decoder.logits(hidden[-len(tokens) :] if all_logits else hidden[-1:], self.probe)

    def _hidden(self, fed: torch.Tensor) -> torch.Tensor:
        """[T, C] before the head, of many rows or of what has no compiled form."""
        if self.prompt is not None and len(fed) > _FUSED_ROWS:
            return self.prompt.forward(fed, self.context, self.probe)
        return self.decoder.forward(fed, self.context, self.probe)

    @property
    def length(self) -> int:
        return len(self._all)

    def end_prompt(self) -> None:
        with torch.inference_mode():
            self.context.cache.end_prompt()

    def trim(self, length: int) -> None:
        self.context.trim(length)
        del self._all[length:]

    @property
    def kv_bytes(self) -> int:
        return self.context.nbytes

    @property
    def kv_tokens(self) -> int:
        return self.context.cache.tokens

    @property
    def kv_read(self) -> int:
        return self.context.read_nbytes
