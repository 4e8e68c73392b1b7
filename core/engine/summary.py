"""The numbers of a finished run, computed from its own steps and rounds. Names and definitions: core/metrics.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.events import Memory, Round, Step

Metrics = dict[str, float | None]


@dataclass(frozen=True)
class Cost:
    """What a run took that its events do not tell.

    step_bytes: bytes of weights and of keys and values that a decode pass reads, on average. bandwidth: bytes per second
    that this machine reads, None where it could not be measured.
    """

    memory: Memory
    load_ms: float
    step_bytes: float
    bandwidth: float | None


def metrics(steps: Sequence[Step], rounds: Sequence[Round], prompt: int, cost: Cost, adopted: int = 0) -> Metrics:
    """Every metric of the run; None where it has no meaning, such as an acceptance rate where nothing was drafted.

    adopted: tokens of the prompt that an earlier run had computed.
    """
    last = steps[-1] if steps else None
    return {
        **_latency(steps),
        **_rates(steps, prompt - adopted),
        **_speculation(rounds),
        "weight_bytes": float(cost.memory.weights),
        "kv_bytes": float(cost.memory.kv),
        "kv_tokens": float(last.kv_tokens) if last else None,
        "peak_memory_bytes": None if cost.memory.peak is None else float(cost.memory.peak),
        "mbu": _mbu(steps[1:], cost),
        "prompt_tokens": float(prompt),
        "cached_tokens": float(adopted),
        "new_tokens": float(_count(steps)),
        "load_ms": cost.load_ms,
    }


def _count(steps: Sequence[Step]) -> int:
    return sum(len(step.tokens) for step in steps)


def _latency(steps: Sequence[Step]) -> Metrics:
    gaps = [step.tokens[0].ms for step in steps]
    between = gaps[1:]
    tokens = _count(steps)
    return {
        "ttft_ms": gaps[0] if gaps else None,
        "e2e_ms": sum(gaps) if gaps else None,
        "tpot_ms": sum(between) / (tokens - 1) if tokens > 1 else None,
        "itl_p50_ms": float(np.percentile(between, 50)) if between else None,
        "itl_p99_ms": float(np.percentile(between, 99)) if between else None,
    }


def _rates(steps: Sequence[Step], prompt: int) -> Metrics:
    prefill = steps[0].phases["prefill"] if steps else 0.0
    tpot = _latency(steps)["tpot_ms"]
    return {
        "prefill_tokens_per_s": 1000 * prompt / prefill if prefill else None,
        "decode_tokens_per_s": 1000 / tpot if tpot else None,
    }


def _speculation(rounds: Sequence[Round]) -> Metrics:
    drafted, accepted = sum(len(r.drafted) for r in rounds), sum(r.accepted for r in rounds)
    return {
        "rounds": float(len(rounds)),
        "acceptance_rate": accepted / drafted if drafted else None,
        "mean_acceptance_length": 1 + accepted / len(rounds) if rounds else None,
    }


def _mbu(decoding: Sequence[Step], cost: Cost) -> float | None:
    """A speculative pass yields several tokens, so bytes and time are both those of a pass."""
    if not decoding or not cost.bandwidth:
        return None
    seconds = sum(step.tokens[0].ms for step in decoding) / len(decoding) / 1000
    return cost.step_bytes / seconds / cost.bandwidth
