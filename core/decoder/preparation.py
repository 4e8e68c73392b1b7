"""What a technique may use besides the plan that it rewrites."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from core.models.checkpoint import Checkpoint
from core.models.tokenizer import Tokenizer


@dataclass(frozen=True)
class Preparation:
    """The model as it is on disk. progress: called with stage, done and total; raises Stopped to end the work."""

    checkpoint: Checkpoint
    tokenizer: Tokenizer
    progress: Callable[[str, int, int], None]
