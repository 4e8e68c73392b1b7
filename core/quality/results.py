"""What a quality measurement found. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core.config import RunConfig
from core.models.info import ModelInfo


@dataclass(frozen=True)
class Segment:
    """Means over `tokens` scored tokens in a row, the first of them number `first`. nll, base_nll, kl: nats."""

    first: int
    tokens: int
    nll: float
    base_nll: float
    kl: float
    same_top1: float


@dataclass(frozen=True)
class QualityMeasured:
    """A configuration and the unmodified model on one text; figures.py makes figures of its segments.

    context: tokens of a window, or of the whole stream. base_context: most tokens that the unmodified model held at once.
    segments: in the order of the text; they cross no window. prompt_tokens: at the beginning of each window, not scored.
    kv_bytes, kv_tokens: held at the end of the last window.
    """

    config: RunConfig
    base: RunConfig
    info: ModelInfo
    text: str
    mode: Literal["windows", "stream"]
    context: int
    base_context: int
    segments: tuple[Segment, ...]
    kv_bytes: int
    kv_tokens: int
    seconds: float
    environment: dict[str, Any]
    prompt_tokens: int = 0


@dataclass(frozen=True)
class NeedleMeasured:
    """Needles asked for, by depth and length.

    lengths: tokens of the prompt. depths: per cent. recall [depths, lengths]: share of greedy answers that hold the number.
    log_probability [depths, lengths]: mean over the tokens of the right answer, in nats, given the prompt. trials: a cell.
    """

    config: RunConfig
    info: ModelInfo
    text: str
    lengths: tuple[int, ...]
    depths: tuple[int, ...]
    trials: int
    recall: np.ndarray
    log_probability: np.ndarray
    seconds: float
    environment: dict[str, Any]
