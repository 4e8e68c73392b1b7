"""The numbers of a finished run, computed from its own steps and rounds. Names and definitions: core/metrics.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.events import Memory, Round, Step

Metrics = dict[str, float | None]


def metrics(
    steps: Sequence[Step], rounds: Sequence[Round], prompt: int, memory: Memory, load_ms: float, pass_bytes: int,
    bandwidth: float | None,
) -> Metrics:  # fmt: skip
    """Every metric of the run; None where it has no meaning, such as an acceptance rate where nothing was drafted.

    pass_bytes: weight bytes that one decode pass reads. bandwidth: bytes per second this machine reads.
    """
    last = steps[-1] if steps else None
    return {
        **_latency(steps),
        **_rates(steps, prompt),
        **_speculation(rounds),
        "weight_bytes": float(memory.weights),
        "kv_bytes": float(memory.kv),
        "kv_tokens": float(last.kv_tokens) if last else None,
        "peak_memory_bytes": None if memory.peak is None else float(memory.peak),
        "mbu": _mbu(steps[1:], pass_bytes, bandwidth),
        "prompt_tokens": float(prompt),
        "new_tokens": float(_count(steps)),
        "load_ms": load_ms,
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


def _mbu(decoding: Sequence[Step], pass_bytes: int, bandwidth: float | None) -> float | None:
    """A speculative pass yields several tokens, so bytes and time are both those of a pass."""
    if not decoding or not bandwidth:
        return None
    seconds = sum(step.tokens[0].ms for step in decoding) / len(decoding) / 1000
    kv = sum(step.kv_bytes for step in decoding) / len(decoding)
    return (pass_bytes + kv) / seconds / bandwidth
