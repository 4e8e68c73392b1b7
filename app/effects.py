"""What each card says its technique is predicted to change, and what the last run measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.charts.latency_phases import stages
from core.compatibility import with_technique
from core.config import RunConfig
from core.errors import BadInput
from core.events import Estimate
from core.models.info import ModelInfo
from core.models.memory import estimate
from core.techniques import CATALOGUE, DEFAULTS
from core.trace import Trace
from widgets.quantity import spoken

if TYPE_CHECKING:
    from app.main_window import Window


def show_effects(window: Window) -> None:
    """Fill the predicted and measured lines of every configuration's cards."""
    prompt = len(window.session.prompt_tokens())
    for number, column in enumerate(window.session.columns):
        info = window.models.info(column.config.model)
        for family in CATALOGUE:
            window.cards.set_effect(number, family, predicted(column.config, family, info, prompt), "modelled")
            window.cards.set_effect(number, family, measured(column.config, family, column.trace), "measured")


def needed(config: RunConfig, info: ModelInfo | None, prompt_tokens: int) -> Estimate | None:
    """Modelled memory of a configuration; None where the model is not known or an option does not fit it."""
    if info is None:
        return None
    try:
        return estimate(info, config, prompt_tokens)
    except BadInput:
        return None  # the cards say what is wrong


def predicted(config: RunConfig, family: str, info: ModelInfo | None, prompt_tokens: int) -> str:
    """Modelled bytes with the technique against those with the family's default; empty where bytes say nothing of it."""
    if info is None or family in ("engine", "decoding"):
        return ""
    plain = with_technique(config, family, DEFAULTS[family], info)
    now, then = needed(config, info, prompt_tokens), needed(plain, info, prompt_tokens)
    if now is None or then is None:
        return ""
    weights, kv = _change(then.weights, now.weights), _change(then.kv_end, now.kv_end)
    if not weights and not kv:
        held = {"weights": f"weights {_bytes(now.weights)}", "cache": f"KV cache {_bytes(now.kv_end)}{_most(now)}"}
        return held.get(family, "")
    parts = f"weights {weights}" if weights else "", f"KV cache {kv}{_most(now)}" if kv else ""
    return ", ".join(part for part in parts if part)


def measured(config: RunConfig, family: str, trace: Trace | None) -> str:
    """The number that tells most of the family, from the last run; empty when that run used another setting."""
    if trace is None or trace.started is None or trace.finished is None:
        return ""
    if trace.started.config.choice(family) != config.choice(family):
        return ""
    metrics = trace.finished.metrics
    match family:
        case "weights":
            return f"weights {spoken(metrics.get('weight_bytes'), 'B')}"
        case "cache" | "heads":
            return f"KV cache {spoken(metrics.get('kv_bytes'), 'B')} for {spoken(metrics.get('kv_tokens'))} tokens"
        case "attention" | "ffn":
            return _phase(trace, family)
        case "decoding":
            return _speed(metrics)
        case _:
            return ""


def _change(before: int, after: int) -> str:
    if before == after:
        return ""
    share = f" ({100 * (after / before - 1):+.0f} %)".replace("-", "−") if before else ""
    return f"{_bytes(before)} → {_bytes(after)}{share}"


def _most(estimate: Estimate) -> str:
    """Of a cache that takes more before the end, which is what is measured."""
    most = estimate.parts["kv"]
    return "" if most == estimate.kv_end else f" at the end, {_bytes(most)} before the prompt is condensed"


def _bytes(count: int) -> str:
    return spoken(float(count), "B")


def _phase(trace: Trace, phase: str) -> str:
    """Mean time of a phase over the passes after the prefill."""
    passes = [stage for stage in stages(trace) if stage.name != "prefill"]
    count, spent = sum(stage.steps for stage in passes), sum(stage.phases.get(phase, 0.0) for stage in passes)
    return f"{phase} {spoken(spent / count, 'ms')} a pass" if count and spent else ""


def _speed(metrics: dict[str, float | None]) -> str:
    speed = f"{spoken(metrics.get('decode_tokens_per_s'), 'tok/s')}"
    length = metrics.get("mean_acceptance_length")
    return f"{speed}, {spoken(length)} tokens a round" if length is not None else speed
