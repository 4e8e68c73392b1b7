"""A model read and rewritten by a configuration's heads and ffn techniques, before anything is built."""

from __future__ import annotations

from dataclasses import dataclass

from core.config import RunConfig
from core.decoder.plan import Plan, plan_of
from core.decoder.preparation import Preparation
from core.engine.backend import Progress
from core.models.checkpoint import Checkpoint
from core.models.find import open_checkpoint
from core.models.tokenizer import Tokenizer


@dataclass(frozen=True)
class Planned:
    """What every backend of the local engine begins with."""

    checkpoint: Checkpoint
    tokenizer: Tokenizer
    plan: Plan

    @classmethod
    def of(cls, config: RunConfig, progress: Progress) -> Planned:
        """The model that `config` names. Raises BadInput, and whatever `progress` raises."""
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
        return cls(checkpoint, tokenizer, plan)
