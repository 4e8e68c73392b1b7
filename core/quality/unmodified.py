"""The model that quality is measured against, and which choices can change quality at all."""

from __future__ import annotations

from dataclasses import replace

from core.config import RunConfig
from core.models.info import ModelInfo
from core.techniques import CATALOGUE

_LOSSLESS_FAMILIES = ("decoding",)


def unmodified(config: RunConfig, info: ModelInfo) -> RunConfig:
    """The same model in its file's own bits with every family at its default, on the engine that knows it."""
    return replace(RunConfig(model=config.model).set([f"engine.name={info.engine}"]), run=config.run)


def same_quality(one: RunConfig, other: RunConfig) -> bool:
    """Whether two configurations give the same next-token distributions."""
    families = [family for family in CATALOGUE if family not in _LOSSLESS_FAMILIES]
    return one.model == other.model and all(one.choice(family) == other.choice(family) for family in families)
