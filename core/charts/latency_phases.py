"""Where the milliseconds go: a stacked bar of phases for the prefill, for plain steps and for verified drafts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from core.charts.chart import Chart, Series
from core.charts.labelled import Labelled, capture_notes, columns, counted, ending_notes, prefix
from core.errors import BadInput
from core.events import Step
from core.trace import Trace

STAGES = ("prefill", "decode", "verify")
ORDER = ("embed", "norm", "attention", "cache", "ffn", "head", "draft", "sampling", "capture")
_ROUNDING = 1e-9  # of a step's time
_UNSPLIT, _OTHER = "whole pass", "other"


@dataclass(frozen=True)
class Stage:
    """Steps of one kind: ms by phase, and how many tokens they computed (prefill) or yielded."""

    name: str
    phases: dict[str, float]
    steps: int
    tokens: int


class _Sums:
    """Steps of a run by stage, each added once."""

    def __init__(self) -> None:
        self._taken = 0
        self.phases: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self.ms: dict[str, float] = defaultdict(float)
        self.steps: dict[str, int] = defaultdict(int)
        self.tokens: dict[str, int] = defaultdict(int)

    def take(self, trace: Trace) -> None:
        for step in trace.steps[self._taken :]:
            stage = stage_of(step)
            sums = self.phases[stage]
            for phase, ms in step.phases.items():
                sums[phase] += ms
            self.ms[stage] += step.ms
            self.steps[stage] += 1
            self.tokens[stage] += len(step.tokens)
        self._taken = len(trace.steps)


def stages(trace: Trace) -> tuple[Stage, ...]:
    """The stages a run had, each with its phases adding up to the time of its steps."""
    sums = trace.follow(_Sums)
    return tuple(_stage(name, sums, len(trace.prompt_tokens)) for name in STAGES if sums.steps[name])


def stage_of(step: Step) -> str:
    """Prefill, a plain decoding step, or one that verified a draft."""
    if step.index < 0:
        return "prefill"
    return "verify" if "verify" in step.phases else "decode"


def leaves(step: Step) -> dict[str, float]:
    """ms of the finest phases of a step, with what none of them covers as `other`; they add up to the step's ms."""
    found: dict[str, float] = defaultdict(float)
    for name, ms in step.phases.items():
        top, dot, leaf = name.partition(".")
        if dot:
            found[leaf] += ms
        elif top not in STAGES:
            found[top] += ms
        elif not any(other.startswith(f"{top}.") for other in step.phases):
            found[_UNSPLIT] += ms
    rest = step.ms - sum(found.values())
    found[_OTHER] = rest if rest > _ROUNDING * step.ms else 0.0
    return dict(found)


def _stage(name: str, sums: _Sums, prompt: int) -> Stage:
    whole = Step(-1 if name == "prefill" else 0, (), sums.ms[name], sums.phases[name], 0, 0)
    return Stage(name, leaves(whole), sums.steps[name], prompt if name == "prefill" else sums.tokens[name])


def latency_phases(traces: Labelled, *, per: str = "token") -> Chart:
    """Stacked bars by stage. per: `token` (ms a token computed or yielded), `step` (a pass) or `run` (all of it)."""
    if per not in ("token", "step", "run"):
        raise BadInput(f"per={per}: there are token, step, run")
    found = [(column, stages(trace)) for _, column, trace in columns(traces)]
    names = tuple(stage for stage in STAGES if any(one.name == stage for _, each in found for one in each))
    return Chart(
        name="latency_phases",
        title=f"Time by phase, {_TITLES[per]}",
        badge="measured" if per == "run" else "derived",
        definition=_DEFINITIONS[per],
        y_label="time (ms)",
        series=tuple(_series(found, names, per)),
        categories=tuple(_LABELS[name] for name in names),
        notes=(*capture_notes(traces), *_totals(traces), *ending_notes(traces)),
        empty="Run: here the time of prefill and decoding splits into attention, feed-forward, head, sampling and the rest.",
    )


_TITLES = {"token": "per token", "step": "per pass over the weights", "run": "whole run"}
_LABELS = {"prefill": "prefill", "decode": "decode", "verify": "verify drafts"}
_DEFINITIONS = {
    "token": "Prefill: its time / prompt tokens. Decode and verify: the time of their passes / tokens these yielded.",
    "step": "Mean time of a pass over the weights; the whole prefill counts as one.",
    "run": "Time of all passes of the run.",
}


def _series(found: Sequence[tuple[int, tuple[Stage, ...]]], names: Sequence[str], per: str) -> Iterable[Series]:
    """One series a phase and column, stacked on those before it."""
    for column, each in found:
        by_name = {stage.name: stage for stage in each}
        base = np.zeros(len(names))
        for phase in _phases(found):
            y = np.array([_share(by_name.get(name), phase, per) for name in names])
            if np.isfinite(y).any():
                label = "whole pass (not split)" if phase == _UNSPLIT else phase
                yield Series(label, np.arange(len(names)), y, "bar", column, _key(phase), base=base.copy())
            base += np.nan_to_num(y)


def _phases(found: Sequence[tuple[int, tuple[Stage, ...]]]) -> list[str]:
    """Every phase that took time, in the order of ORDER, unknown ones after it."""
    seen = {phase for _, each in found for stage in each for phase, ms in stage.phases.items() if ms > 0}
    known = [_UNSPLIT, *ORDER]
    return [phase for phase in known if phase in seen] + sorted(seen - {*known, _OTHER}) + [_OTHER] * (_OTHER in seen)


def _key(phase: str) -> str:
    return "decode" if phase == _UNSPLIT else phase


def _share(stage: Stage | None, phase: str, per: str) -> float:
    if stage is None or not stage.phases.get(phase):
        return float("nan")
    count = {"token": stage.tokens, "step": stage.steps, "run": 1}[per]
    return stage.phases[phase] / count if count else float("nan")


def _totals(traces: Labelled) -> tuple[str, ...]:
    """The whole times behind the bars."""
    return tuple(prefix(traces, label) + "; ".join(_total(stage) for stage in stages(t)) for label, t in traces if t.steps)


def _total(stage: Stage) -> str:
    passes = f" in {counted(stage.steps, 'pass')}" if stage.name == "verify" else ""
    return f"{_LABELS[stage.name]} {sum(stage.phases.values()):.0f} ms for {counted(stage.tokens, 'token')}{passes}"
