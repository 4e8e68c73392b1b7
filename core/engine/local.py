"""The local engine: this program's own decoder with a configuration's techniques applied."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from core.attention.context import Context
from core.attention.mechanism import mechanisms
from core.cache.off import Off
from core.config import RunConfig
from core.cuda.backend import DeviceBackend, goes_to_gpu
from core.decoder.build import Weights, build
from core.decoder.fused.prompt import Prompt
from core.decoder.fused.runner import Fused
from core.decoder.fused.runner import enabled as fused_enabled
from core.decoder.model import Decoder
from core.decoder.probe import Probe
from core.decoder.sites import expansions_of, layout_of, sites_of
from core.engine.backend import Backend, Progress, Session
from core.engine.planned import Planned
from core.events import CacheChanged
from core.models.info import ModelInfo
from core.models.tokenizer import Tokenizer
from core.weights.store import Stored

_FEW_ROWS = 64  # up to here passes of a few rows through packed weights beat unpacking them


class LocalBackend(Backend):
    """A built decoder, its tokenizer and its KV format."""

    def __init__(self, info: ModelInfo, tokenizer: Tokenizer, decoder: Decoder, kv_dtype: torch.dtype) -> None:
        self.info, self.tokenizer, self.decoder, self.kv_dtype = info, tokenizer, decoder, kv_dtype
        self.weight_bytes = decoder.nbytes
        self.pools: dict[Hashable, Any] = {}  # what caches keep from run to run
        self.fused = Fused.of(decoder) if fused_enabled() else None
        self.prompt = Prompt.of(decoder) if fused_enabled() else None

    @property
    def pass_bytes(self) -> int:
        return self.decoder.active_nbytes

    @classmethod
    def load(cls, config: RunConfig, progress: Progress) -> Backend:
        planned = Planned.of(config, progress)
        if goes_to_gpu(config, planned.checkpoint.info):
            return DeviceBackend.of(planned, config, torch.device("cuda"), progress)
        checkpoint, plan = planned.checkpoint, planned.plan
        technique: Weights = config.weights.technique.load()(config.weights.options, plan)
        stored = Stored.of(technique, config, Path(checkpoint.info.path))
        backend = cls(checkpoint.info, planned.tokenizer, build(plan, stored or technique, progress), technique.kv_dtype)
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
        layout = layout_of(self.decoder, found, capacity, self.kv_dtype)
        layout = replace(layout, pools=self.pools, shaped_by=config.attention)
        cache = config.cache.technique.load()(config.cache.options, layout)
        context = Context(cache, found, expansions_of(self.decoder))
        return LocalSession(self.decoder, context, probe, self.fused, self.prompt)


class LocalSession(Session):
    """One sequence on the local decoder."""

    def __init__(
        self, decoder: Decoder, context: Context, probe: Probe, fused: Fused | None = None, prompt: Prompt | None = None
    ) -> None:
        self.decoder, self.context, self.probe = decoder, context, probe
        self.fused, self.prompt = fused, prompt
        self.rewindable = context.rewindable
        self._all: list[int] = []  # every token fed, for the passes of a cache that keeps nothing
        self._prompt_length = 0  # where it was told before the first pass

    def forward(self, tokens: Sequence[int], all_logits: bool = False) -> torch.Tensor:
        logits = self._logits(tokens, all_logits)
        self.context.cache.note(self._all)
        return logits

    def alike(self, rows: int) -> bool:
        """What is left to torch rounds a row otherwise beside others, and so do passes of many rows."""
        if self.fused is None or isinstance(self.context.cache, Off) or rows > _FEW_ROWS:
            return False
        return self.fused.alike(self.context, rows, self.probe)

    def _logits(self, tokens: Sequence[int], all_logits: bool) -> torch.Tensor:
        self._all.extend(tokens)
        fed = torch.tensor(self._all if isinstance(self.context.cache, Off) else tokens)
        with torch.inference_mode():
            few = self._few(len(tokens), len(fed))
            if few and self.fused is not None:
                return self.fused.forward(fed, self.context, self.probe, len(tokens) if all_logits else 1)
            hidden = (self.decoder if few or self.prompt is None else self.prompt).forward(fed, self.context, self.probe)
            return self.decoder.logits(hidden[-len(tokens) :] if all_logits else hidden[-1:], self.probe)

    def _few(self, tokens: int, fed: int) -> bool:
        """Whether a pass takes the way of few rows. The last ones of a long prompt take that of its first ones: so it comes
        out the same however it was divided, and where an earlier run had computed some of it as such a prompt."""
        of_long = len(self._all) - tokens < self._prompt_length > _FEW_ROWS
        return fed <= _FEW_ROWS and not of_long

    def held(self, step: int) -> CacheChanged:
        cache = self.context.cache
        now = cache.held()
        return CacheChanged(
            step, cache.length, now.positions, now.layers, now.bits, now.blocks, now.block_size, cache.offloaded, cache.drops
        )

    @property
    def length(self) -> int:
        return len(self._all)

    def adopt(self, prompt: Sequence[int]) -> int:
        self._prompt_length = len(prompt)
        if not self.context.is_plain:  # attention with a state of its own must see every token
            return 0
        self._all = list(prompt[: self.context.cache.adopt(prompt)])
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
        return self.context.tokens

    @property
    def kv_read(self) -> int:
        return self.context.read_nbytes
