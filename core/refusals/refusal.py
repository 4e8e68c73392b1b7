"""What a rule says of a configuration that cannot run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from core.config import RunConfig
from core.models.info import ModelInfo


@dataclass(frozen=True)
class Refusal:
    """Why the technique `name` of `family` cannot run as the configuration stands. reason: one sentence without a full stop."""

    family: str
    name: str
    reason: str


Rule = Callable[[RunConfig], Iterator[Refusal]]
ModelRule = Callable[[RunConfig, ModelInfo], Iterator[Refusal]]
