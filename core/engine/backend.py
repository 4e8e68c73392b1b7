"""What the decode loop needs of a model, whichever engine runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from core.hardware import measured_bandwidth, memory_budget
from core.memory import Peak, PeakMemory

if TYPE_CHECKING:
    import torch

    from core.config import RunConfig
    from core.decoder.probe import Probe
    from core.events import CacheChanged
    from core.models.info import ModelInfo
    from core.models.tokenizer import Tokenizer

Progress = Callable[[str, int, int], None]  # stage, done, total; may raise Stopped
Stop = Callable[[], bool]


class Stopped(Exception):
    """Raised inside long work when the person pressed Stop."""


class Session(ABC):
    """One sequence on one model: its cache, and passes over the weights."""

    rewindable: bool = True  # whether `trim` works, which speculation needs

    @abstractmethod
    def forward(self, tokens: Sequence[int], all_logits: bool = False) -> torch.Tensor:
        """Feed `tokens`; logits [n, V] float32 of the last token (n = 1), or of every one (n = len(tokens))."""

    def alike(self, rows: int) -> bool:
        """Whether a pass of so many rows computes each as it would alone, so that drafts may be verified together."""
        return True

    def adopt(self, prompt: Sequence[int]) -> int:
        """Before the first pass: take over the beginning of `prompt` from an earlier run; how many tokens need not be fed."""
        return 0

    def end_prompt(self) -> None:  # noqa: B027
        """What was fed so far is the whole prompt, which some caches now condense."""

    @abstractmethod
    def trim(self, length: int) -> None:
        """Forget all but the first `length` tokens, as if the others had never been fed."""

    def held(self, step: int) -> CacheChanged | None:
        """Which token is where after pass `step`; None where the engine's own cache does not tell."""
        return None

    @property
    @abstractmethod
    def length(self) -> int:
        """Tokens fed so far: the next token's position."""

    @property
    @abstractmethod
    def kv_bytes(self) -> int:
        """Bytes held for keys and values."""

    @property
    @abstractmethod
    def kv_tokens(self) -> int:
        """Tokens whose keys and values are held."""

    @property
    def kv_read(self) -> int:
        """Bytes of keys and values that a step reads: those of the held tokens, without room for more."""
        return self.kv_bytes


class Backend(ABC):
    """A loaded model with a configuration's techniques applied."""

    info: ModelInfo
    tokenizer: Tokenizer
    weight_bytes: int  # resident
    device: str = "cpu"  # what runs it, as a person reads it

    @property
    def pass_bytes(self) -> int:
        """Weight bytes that one decode pass of one token reads: the active experts alone, no embedding but for a tied head."""
        return self.weight_bytes

    def peak_memory(self) -> Peak:
        """The peak of the memory that the model runs in, from now on."""
        return PeakMemory()

    def memory_budget(self) -> int:
        """Bytes of it that there are for this process."""
        return memory_budget()

    def bandwidth(self) -> float | None:
        """Bytes per second that are read from it, as measured."""
        return measured_bandwidth()

    @abstractmethod
    def session(self, config: RunConfig, capacity: int, probe: Probe) -> Session:
        """A fresh sequence of at most `capacity` tokens."""

    @classmethod
    @abstractmethod
    def load(cls, config: RunConfig, progress: Progress) -> Backend:
        """Load the model that `config` names and apply its heads, ffn and weights techniques.

        Raises BadInput when the model or a combination cannot work, Stopped when `progress` raises it.
        """
