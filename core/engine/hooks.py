"""Timing and routing of a transformers model, told by its modules to a probe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from core.decoder.probe import Probe

_LAYER = re.compile(r".*\b(?:layers|h|blocks)\.(\d+)")
_PHASES = (("norm", r"norm|ln"), ("attention", r"att|mixer|mamba|conv"), ("ffn", r"mlp|feed|ffn|moe|expert"))


class Hooks:
    """Laps of the probe at the end of the embedding, of each part of each layer, and of the head."""

    def __init__(self, model: Any) -> None:
        self._probe = Probe()
        for name, module in model.named_modules():
            self._watch_part(name, module)
            if "Router" in type(module).__name__ and (layer := _LAYER.match(name)):
                self._watch_router(module, int(layer[1]))
        self._lap_after(model.get_input_embeddings(), "embed")
        if model.get_output_embeddings() is not None:
            self._lap_after(model.get_output_embeddings(), "head")

    @contextmanager
    def charging(self, probe: Probe) -> Iterator[None]:
        """Charge the passes of the block to `probe`."""
        self._probe = probe
        yield

    def _watch_part(self, name: str, module: torch.nn.Module) -> None:
        """A direct part of a layer, such as `model.layers.3.mlp`; what comes before it are residual sums, charged as norm."""
        layer, _, part = name.rpartition(".")
        phase = next((phase for phase, pattern in _PHASES if re.search(pattern, part.lower())), None)
        if phase is not None and _LAYER.fullmatch(layer):
            module.register_forward_pre_hook(lambda *_: self._probe.lap("norm"))
            self._lap_after(module, phase)

    def _lap_after(self, module: torch.nn.Module, phase: str) -> None:
        module.register_forward_hook(lambda *_: self._probe.lap(phase))

    def _watch_router(self, module: Any, layer: int) -> None:
        """Routers return logits [T, E], weights [T, K] and experts [T, K] in that order."""

        def route(_module: Any, _inputs: Any, output: Any) -> None:
            if self._probe.routing and isinstance(output, tuple) and len(output) == 3:
                logits, weights, experts = output
                self._probe.lap("ffn")
                self._probe.route(layer, experts.short().numpy(), weights.detach().half().numpy(), logits.shape[-1])
                self._probe.lap("capture")

        module.register_forward_hook(route)
