"""What the benchmark asks of an engine: one sequence that can be fed and taken back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """What an engine is to load.

    model: a `.gguf` file or a folder. room: the most tokens that the sequence will hold. settings: what sets this engine
    apart from others of its kind, such as `weights.name=native` or `flash_attention=off`.
    """

    model: str
    threads: int
    room: int
    settings: tuple[str, ...] = ()


class Adapter(ABC):
    """One engine with one sequence. Making it loads the model.

    weight_bytes: what a pass of one token reads of the weights. kv_bytes: what it reads for each token that is held.
    """

    weight_bytes: int
    kv_bytes: int

    @classmethod  # noqa: B027
    def import_all(cls) -> None:
        """Import what this module did not import already, so that no measurement holds the time of imports."""

    @classmethod
    @abstractmethod
    def about(cls) -> str:
        """Version, and what it was built for where that matters."""

    @abstractmethod
    def __init__(self, job: Job) -> None:
        """Load. Raises PlaygroundError when the engine cannot take the model."""

    @abstractmethod
    def feed(self, tokens: Sequence[int], every: bool = False) -> int:
        """Feed `tokens` as the engine feeds a prompt; the greedy next token. every: compute the logits of all of them."""

    @abstractmethod
    def trim(self, length: int) -> None:
        """Forget all but the first `length` tokens."""

    def close(self) -> None:  # noqa: B027
        """Let go of what Python does not free by itself."""
