"""Angular frequencies of rotary embeddings, plain and stretched to longer contexts than the first training had."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor, log, pi, sqrt
from typing import Any

import torch
from torch import Tensor

from core.decoder.traits import Rope
from core.errors import BadInput


def frequencies(rope: Rope, run: int) -> tuple[Tensor, float]:
    """Angular frequency of each pair of values [size / 2], and the factor on cosine and sine, in a run of `run` tokens.

    Raises BadInput for a kind of scaling that is not known here.
    """
    return _kind(rope)(rope, dict(rope.scaling), run)


def regime(rope: Rope, run: int) -> int:
    """A number that changes when the frequencies for a run of `run` tokens do."""
    scaling = dict(rope.scaling)
    if rope.kind == "longrope":
        return int(run > scaling["original_max_position_embeddings"])
    return max(run, scaling["context"]) if rope.kind == "dynamic" else 0


_Scaling = dict[str, Any]


def _kind(rope: Rope) -> Callable[[Rope, _Scaling, int], tuple[Tensor, float]]:
    if rope.kind not in _KINDS:
        raise BadInput(
            f"rope scaling {rope.kind!r} is not known to the local engine, which has {', '.join(_KINDS)}; "
            "set engine.name=transformers"
        )
    return _KINDS[rope.kind]


def _plain(theta: float, size: int) -> Tensor:
    return 1.0 / theta ** (torch.arange(0, size, 2, dtype=torch.float32) / size)


def _default(rope: Rope, _scaling: _Scaling, _run: int) -> tuple[Tensor, float]:
    return _plain(rope.theta, rope.size), 1.0


def _linear(rope: Rope, scaling: _Scaling, _run: int) -> tuple[Tensor, float]:
    """Position interpolation (Chen et al. 2023, arXiv 2306.15595)."""
    return _plain(rope.theta, rope.size) / scaling["factor"], 1.0


def _dynamic(rope: Rope, scaling: _Scaling, run: int) -> tuple[Tensor, float]:
    """NTK-aware: theta grows with a run that is longer than the context."""
    stretch = scaling["factor"] * max(run, scaling["context"]) / scaling["context"] - (scaling["factor"] - 1)
    return _plain(rope.theta * stretch ** (rope.size / (rope.size - 2)), rope.size), 1.0


def _llama3(rope: Rope, scaling: _Scaling, _run: int) -> tuple[Tensor, float]:
    """Llama 3.1 (Dubey et al. 2024, arXiv 2407.21783): long waves are slowed down, short ones stay, in between a blend."""
    plain = _plain(rope.theta, rope.size)
    slow, fast = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = scaling["original_max_position_embeddings"] * plain / (2 * pi)  # over the original context
    kept = ((turns - slow) / (fast - slow)).clamp(0, 1)
    return plain * kept + plain / scaling["factor"] * (1 - kept), 1.0


def _yarn(rope: Rope, scaling: _Scaling, _run: int) -> tuple[Tensor, float]:
    """YaRN (Peng et al. 2023, arXiv 2309.00071)."""
    original = scaling["original_max_position_embeddings"]
    factor = scaling.get("factor") or scaling["context"] / original

    def pair_that_turns(times: float) -> float:
        return rope.size * log(original / (times * 2 * pi)) / (2 * log(rope.theta))

    first, last = pair_that_turns(scaling.get("beta_fast") or 32), pair_that_turns(scaling.get("beta_slow") or 1)
    if scaling.get("truncate", True):
        first, last = floor(first), ceil(last)
    first, last = max(first, 0), min(last, rope.size - 1)
    pairs = torch.arange(rope.size // 2, dtype=torch.float32)
    slowed = ((pairs - first) / max(last - first, 0.001)).clamp(0, 1)
    plain = _plain(rope.theta, rope.size)
    return plain / factor * slowed + plain * (1 - slowed), _yarn_factor(scaling, factor)


def _yarn_factor(scaling: _Scaling, factor: float) -> float:
    def gain(scale: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * scale * log(factor) + 1.0

    if scaling.get("attention_factor") is not None:
        return float(scaling["attention_factor"])
    over, under = scaling.get("mscale"), scaling.get("mscale_all_dim")
    return gain(over) / gain(under) if over and under else gain(1.0)


def _longrope(rope: Rope, scaling: _Scaling, run: int) -> tuple[Tensor, float]:
    """LongRoPE (Ding et al. 2024, arXiv 2402.13753): a searched divisor for each pair, others past the original context."""
    original = scaling["original_max_position_embeddings"]
    divisors = torch.tensor(scaling["long_factor" if run > original else "short_factor"], dtype=torch.float32)
    factor = scaling.get("factor") or scaling["context"] / original
    gain = scaling.get("attention_factor")
    if gain is None:
        gain = sqrt(1 + log(factor) / log(original)) if factor > 1 else 1.0
    return _plain(rope.theta, rope.size) / divisors, float(gain)


_KINDS: dict[str, Callable[[Rope, _Scaling, int], tuple[Tensor, float]]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}
