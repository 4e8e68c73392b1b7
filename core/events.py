"""What the engine says, as it happens: frozen, made of Python scalars and NumPy arrays, never tensors.

The window, the command line and the trace all read this one stream. Times are milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from core.config import RunConfig
from core.models.info import ModelInfo
from core.quality.results import NeedleMeasured, QualityMeasured

# Where a token came from: given in the prompt, sampled by plain decoding, drafted and accepted,
# put in place of a rejected draft, or won on top of a fully accepted draft.
TokenSource = Literal["prompt", "sampled", "drafted", "corrected", "bonus"]
FinishReason = Literal["length", "eos", "stop_string", "stopped", "context"]


@dataclass(frozen=True)
class Inspect:
    """What a run records beyond its tokens. Recording costs time; the cost is the phase `capture`.

    top: alternatives kept per token (0 keeps none and leaves probability and entropy unavailable).
    attention_layers: a layer selection, or "" for none. cache: which tokens the KV cache holds. rows: most query tokens of
    the prompt whose attention is kept (the last ones). budget: bytes of captured attention after which capture ends with a
    CaptureEnded event.
    """

    top: int = 0
    attention_layers: str = ""
    routing: bool = False
    cache: bool = False
    rows: int = 256
    budget: int = 128 * 2**20


MEASURE = Inspect()
INSPECT = Inspect(top=256, attention_layers="all", routing=True, cache=True)


@dataclass(frozen=True)
class RunRequest:
    """One run: a config, and a prompt as text or as exact token ids.

    chat: wrap the prompt as a user turn of the model's chat template. prompt_tokens: when given, used as they are
    and `prompt` and `chat` are only shown (continuing from a clicked token).
    """

    config: RunConfig
    prompt: str = ""
    chat: bool = True
    prompt_tokens: tuple[int, ...] = ()
    inspect: Inspect = MEASURE


@dataclass(frozen=True)
class Token:
    """One token. text: its own characters (bytes of an unfinished character as `\\xNN`).

    probability, entropy (nats) and top (ids, probabilities, texts of the likeliest) are None unless inspected.
    ms: gap since the previous token (for the first: since the request was sent).
    round: index of the speculative round it came from, or None.
    """

    index: int
    id: int
    text: str
    source: TokenSource
    ms: float = 0.0
    probability: float | None = None
    entropy: float | None = None
    top_ids: np.ndarray | None = None  # [top] int32, likeliest first
    top_probabilities: np.ndarray | None = None  # [top] float32
    top_texts: tuple[str, ...] = ()  # of the first 10
    round: int | None = None


@dataclass(frozen=True)
class LoadProgress:
    """stage: `reading`, `heads`, `ffn`, `weights`, `tokenizer`, … done of total, in the stage's own unit."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Loaded:
    info: ModelInfo
    seconds: float
    weight_bytes: int  # resident, with the techniques applied


@dataclass(frozen=True)
class RunStarted:
    config: RunConfig
    info: ModelInfo
    prompt: str
    chat: bool
    prompt_tokens: tuple[Token, ...]
    inspect: Inspect
    environment: dict[str, Any]


@dataclass(frozen=True)
class PrefillProgress:
    done: int
    total: int
    ms: float


@dataclass(frozen=True)
class TextDelta:
    """Text that became final with the last tokens (whole characters only)."""

    text: str


@dataclass(frozen=True)
class Step:
    """One pass over the weights in decoding (or the whole prefill: index -1), and the tokens it yielded.

    phases: dotted name to ms. Top level: `prefill`, `decode`, `verify` (a pass over drafted rows), `draft`, `sampling`,
    `capture`; `prefill`, `decode` and `verify` also split into `.embed .norm .attention .ffn .head .cache`.
    """

    index: int
    tokens: tuple[Token, ...]
    ms: float
    phases: dict[str, float]
    kv_tokens: int
    kv_bytes: int


@dataclass(frozen=True)
class Round:
    """One speculative round. drafted: proposed tokens; the first `accepted` of them were kept.

    final: the corrected or bonus token that the target model added (None when the run ended before it).
    """

    index: int
    step: int
    drafted: tuple[Token, ...]
    accepted: int
    final: Token | None


@dataclass(frozen=True)
class AttentionCaptured:
    """Attention of one layer in one pass: weights [H, T, S] float16, queries at first_query …, keys at key_positions [S].

    mass: the share [H, T] float16 of the softmax over all keys that the cache holds on those that the technique lets a query
    see; None where it hides nothing.
    """

    step: int
    layer: int
    first_query: int
    weights: np.ndarray
    key_positions: np.ndarray  # [S] int32
    mass: np.ndarray | None = None


@dataclass(frozen=True)
class RoutingCaptured:
    """Experts of one layer in one pass: experts [T, K] int16, weights [T, K] float16, tokens at first_token …"""

    step: int
    layer: int
    first_token: int
    experts: np.ndarray
    weights: np.ndarray
    expert_count: int


@dataclass(frozen=True)
class CacheChanged:
    """What the KV cache holds after a pass, where that did more than append the pass's tokens. step −1 is the prompt.

    tokens: seen by then. positions [rows, S] int32: the token in each slot. layers [rows] int32: of each row, which is one KV
    head of a layer; a single row of layer −1 stands for all. bits [S] float32: what a stored number takes, scales included.
    blocks [n] int32: where a cache in blocks of `block_size` tokens keeps them, in their order. offloaded: bytes that are
    not in memory. reason: why tokens are dropped, "" where none are.
    """

    step: int
    tokens: int
    positions: np.ndarray
    layers: np.ndarray
    bits: np.ndarray
    blocks: np.ndarray
    block_size: int
    offloaded: int
    reason: str


@dataclass(frozen=True)
class CaptureEnded:
    """The capture budget is spent; the run goes on without capturing attention."""

    step: int
    message: str


@dataclass(frozen=True)
class Memory:
    """Bytes. budget: memory the process may still use plus what it uses. None where the platform does not tell."""

    weights: int
    kv: int
    activations: int | None
    draft: int
    peak: int | None
    budget: int | None


@dataclass(frozen=True)
class RunFinished:
    """metrics: names of core/metrics.py to values, None when unavailable."""

    reason: FinishReason
    text: str
    metrics: dict[str, float | None]
    memory: Memory


@dataclass(frozen=True)
class Failed:
    """The job ended in an error: one sentence, and whether the input was at fault."""

    message: str
    bad_input: bool


@dataclass(frozen=True)
class QualityProgress:
    """How far a measurement of quality is. stage: `perplexity` or `needle`; done of total tokens.

    so_far: the perplexity, or the share of needles found, of what is done.
    """

    stage: str
    done: int
    total: int
    so_far: float


RunEvent = (
    LoadProgress | Loaded | RunStarted | PrefillProgress | TextDelta | Step | Round
    | AttentionCaptured | RoutingCaptured | CacheChanged | CaptureEnded | RunFinished | Failed
)  # fmt: skip
QualityEvent = QualityMeasured | NeedleMeasured


@dataclass(frozen=True)
class CompareProgress:
    """Repeat `repeat` of `repeats` (0 is the warm-up) of column `column` begins."""

    column: int
    repeat: int
    repeats: int


Event = RunEvent | QualityEvent | QualityProgress | CompareProgress


@dataclass(frozen=True)
class Estimate:
    """Modelled bytes of a configuration before anything is loaded.

    total, parts: the most that is needed at once. kv_end: what the KV cache takes at the end of the run, which is less where
    it condenses the prompt.
    """

    weights: int
    kv_per_token: int
    kv_end: int
    total: int
    available: int | None
    parts: dict[str, int] = field(default_factory=dict)
