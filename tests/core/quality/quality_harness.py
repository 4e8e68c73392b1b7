"""What a configuration should score, computed with transformers in plain float32."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from core.config import RunConfig
from core.engine.backend import Backend
from core.engine.engine import never
from core.engine.watch import Watch
from core.events import Event
from core.quality.measure import measure_quality
from core.quality.request import QualityOptions, QualityRequest
from core.quality.results import QualityMeasured

EXACT = ("weights.name=cast", "weights.dtype=float32")


@dataclass(frozen=True)
class Twin:
    """folder: of the checkpoint. text: a file. backend: in float32. model: the same checkpoint in transformers."""

    folder: Path
    text: Path
    backend: Backend
    model: Any

    def config(self, *settings: str) -> RunConfig:
        return RunConfig(model=str(self.folder)).set(settings)

    def exact(self, *settings: str) -> RunConfig:
        """A configuration that `backend` runs, with keys and values in float32 too."""
        return self.config(*EXACT, *settings)

    def logits(self, tokens: list[int], window: int = 2**30) -> torch.Tensor:
        """[T, V] where every token sees the last `window` ones."""
        at = torch.arange(len(tokens))
        distance = at[:, None] - at[None, :]
        hidden = (distance < 0) | (distance >= window)
        mask = torch.zeros(len(tokens), len(tokens)).masked_fill(hidden, torch.finfo(torch.float32).min)
        with torch.inference_mode():
            return self.model(torch.tensor([tokens]), attention_mask=mask[None, None]).logits[0].double()

    def nll(self, tokens: list[int], window: int = 2**30) -> torch.Tensor:
        """[T − 1] of every token but the first."""
        rows = self.logits(tokens[:-1], window).log_softmax(-1)
        return -rows[torch.arange(len(tokens) - 1), torch.tensor(tokens[1:])]


def request(twin: Twin, *settings: str, **options: Any) -> QualityRequest:
    return QualityRequest(twin.config(*settings), str(twin.text), QualityOptions(**options))


def measured(twin: Twin, *settings: str, **options: Any) -> QualityMeasured:
    """In float32, against the same model in float32."""
    asked = QualityRequest(twin.exact(*settings), str(twin.text), QualityOptions(**options))
    *progress, last = measure_quality(asked, twin.backend, twin.backend, twin.exact(), Watch(never))
    assert isinstance(last, QualityMeasured), progress
    return last


def named(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]
