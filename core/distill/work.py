"""What every training gives and tells, and the model and the texts that it begins with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from core.decoder.build import build
from core.decoder.linear import quick_dtype
from core.decoder.model import Decoder
from core.decoder.plan import Plan, plan_of
from core.decoder.preparation import Preparation
from core.environment import environment
from core.models.find import open_checkpoint
from core.models.tokenizer import Tokenizer
from core.weights.cast import Cast
from core.weights.table import CastOptions


@dataclass(frozen=True)
class Progress:
    """done of total, in sequences read or steps trained; seconds_left is None until it can be told."""

    what: str
    done: int
    total: int
    seconds_left: float | None = None


Tell = Callable[[Progress], None]  # may raise to end the work


@dataclass(frozen=True)
class Distilled:
    """tensors: by the names of an adapter file, bfloat16. log: how they came about, as plain JSON."""

    tensors: dict[str, Tensor]
    log: dict[str, Any]


def opened(model: str, tell: Tell) -> Preparation:
    """The model that is to be learned from."""
    checkpoint = open_checkpoint(model, lambda stage, done, total: tell(Progress(stage, done, total)))
    return Preparation(checkpoint, Tokenizer.of(checkpoint), lambda stage, done, total: tell(Progress(stage, done, total)))


def built(preparation: Preparation) -> tuple[Plan, Decoder]:
    """The model in the format that this processor multiplies fastest."""
    plan = plan_of(preparation.checkpoint)
    cast = Cast(CastOptions(str(quick_dtype()).removeprefix("torch.")), plan)
    return plan, build(plan, cast, lambda _, done, total: preparation.progress("loading", done, total))


def step_of(done: int, total: int, began: float, what: str) -> Progress:
    """Progress with the time left at the speed so far. began: of `time.monotonic`."""
    spent = time.monotonic() - began
    return Progress(what, done, total, spent * (total - done) / done if done else None)


def log_of(preparation: Preparation, settings: Any, began: float, **figures: Any) -> dict[str, Any]:
    """settings: a dataclass. figures: what was found."""
    return {
        "model": preparation.checkpoint.info.name,
        "settings": asdict(settings),
        **figures,
        "seconds": round(time.monotonic() - began, 1),
        "versions": environment()["versions"],
    }
