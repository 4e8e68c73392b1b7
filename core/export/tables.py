"""Charts and runs as CSV and JSON, every number with its unit and its badge."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from core.charts.chart import Badge, Chart, table
from core.errors import BadInput
from core.events import Round, Token
from core.files import replacing
from core.metrics import METRICS
from core.trace import Trace

TOKEN_COLUMNS = (
    "position", "id", "text", "source", "time (ms)", "probability", "entropy (nats)", "step", "round",
)  # fmt: skip


def chart_csv(chart: Chart) -> str:
    """The table twin. Units stand in the column names, the badge in every row, the definition in the first."""
    twin = table(chart)
    rows = ((*row, chart.badge, "" if index else chart.definition) for index, row in enumerate(twin.rows))
    return _csv((*twin.columns, "badge", "definition"), rows)


def chart_json(chart: Chart) -> dict[str, Any]:
    """The chart as plain JSON: a heatmap as its matrix, anything else as its table twin. Unavailable numbers are null."""
    head = {
        "chart": chart.name, "title": chart.title, "badge": chart.badge, "definition": chart.definition,
        "notes": list(chart.notes), "x": chart.x_label, "y": chart.y_label,
    }  # fmt: skip
    if chart.heatmap is None:
        twin = table(chart)
        return {**head, "columns": list(twin.columns), "rows": [list(row) for row in twin.rows]}
    heatmap = chart.heatmap
    labels = {"row_labels": list(heatmap.row_labels), "column_labels": list(heatmap.column_labels)}
    veiled = {} if heatmap.overlay is None else {"veiled": heatmap.overlay.tolist()}
    return {**head, "unit": heatmap.unit, **labels, "values": _finite(heatmap.values.tolist()), **veiled}


def tokens_csv(trace: Trace) -> str:
    """A row a token, prompt and generated."""
    steps = {token.index: step.index for step in trace.steps for token in step.tokens}
    return _csv(TOKEN_COLUMNS, (_token_row(i, token, steps) for i, token in enumerate(trace.all_tokens)))


def run_json(trace: Trace) -> dict[str, Any]:
    """All of a run but its captures, as plain JSON. Raises BadInput when the trace holds no run.

    prompt_tokens, tokens: ids. phases: name to ms and to how many passes had it. badges: of each metric, `unavailable` where
    the metric is null. environment: what it ran on.
    """
    started, finished = trace.started, trace.finished
    if started is None:
        raise BadInput("the trace holds no run: it ended before the model was ready")
    metrics = dict(finished.metrics) if finished else {}
    everything = {
        "config": started.config.to_dict(),
        "model": dataclasses.asdict(started.info),
        "prompt": started.prompt,
        "chat": started.chat,
        "prompt_tokens": [token.id for token in started.prompt_tokens],
        "tokens": [token.id for token in trace.tokens],
        "text": finished.text if finished else trace.text,
        "finish_reason": finished.reason if finished else None,
        "error": trace.failed.message if trace.failed else None,
        "metrics": metrics,
        "units": {name: METRICS[name].unit for name in metrics if name in METRICS},
        "phases": phases(trace),
        "memory": dataclasses.asdict(finished.memory) if finished else None,
        "badges": badges(metrics),
        "inspect": dataclasses.asdict(started.inspect),
        "environment": started.environment,
        "token_details": [_details(token) for token in trace.tokens],
        "steps": [_step(trace, index) for index in range(len(trace.steps))],
        "rounds": [_round(one) for one in trace.rounds],
    }
    return {key: _finite(value) for key, value in everything.items()}


def phases(trace: Trace) -> dict[str, dict[str, float | int]]:
    """Total ms of each phase, and how many passes had it."""
    found: dict[str, dict[str, float | int]] = defaultdict(lambda: {"ms": 0.0, "count": 0})
    for step in trace.steps:
        for name, ms in step.phases.items():
            found[name]["ms"] += ms
            found[name]["count"] += 1
    return dict(found)


def badges(metrics: dict[str, float | None]) -> dict[str, Badge]:
    """The badge of each metric and of the phases."""
    known: dict[str, Badge] = {name: METRICS[name].badge for name in metrics if name in METRICS}
    missing: dict[str, Badge] = {name: "unavailable" for name, value in metrics.items() if value is None}
    return {**known, **missing, "phases": "measured", "memory": "measured"}


def save_chart_data(chart: Chart, path: Path) -> None:
    """Write the chart as `.csv` or `.json`. Raises BadInput for another ending, RunFailed when it cannot be written."""
    _save(path, {".csv": lambda: chart_csv(chart), ".json": lambda: dumps(chart_json(chart))}, "a chart's numbers are")


def save_run(trace: Trace, path: Path) -> None:
    """Write the tokens as `.csv` or all of the run as `.json`. Raises as `save_chart_data` does."""
    _save(path, {".csv": lambda: tokens_csv(trace), ".json": lambda: dumps(run_json(trace))}, "a run is")


def dumps(data: Any) -> str:
    """Indented strict JSON: no NaN, text of any kind escaped to ASCII."""
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def _save(path: Path, writers: dict[str, Any], what: str) -> None:
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise BadInput(f"{path}: {what} written as {' or '.join(writers)}, not as {path.suffix or 'a file with no ending'}")
    data = writer().encode("utf-8", "backslashreplace")
    with replacing(path) as file:
        file.write(data)


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue()


def _token_row(position: int, token: Token, steps: dict[int, int]) -> tuple[Any, ...]:
    ms = None if token.source == "prompt" else token.ms
    numbers = (ms, token.probability, token.entropy, steps.get(position), token.round)
    return (position, token.id, token.text, token.source, *numbers)


def _details(token: Token) -> dict[str, Any]:
    return {
        "position": token.index, "text": token.text, "source": token.source, "ms": token.ms,
        "probability": token.probability, "entropy": token.entropy, "round": token.round,
    }  # fmt: skip


def _step(trace: Trace, index: int) -> dict[str, Any]:
    step = trace.steps[index]
    held = {"kv_tokens": step.kv_tokens, "kv_bytes": step.kv_bytes}
    return {"index": step.index, "tokens": len(step.tokens), "ms": step.ms, "phases": step.phases, **held}


def _round(one: Round) -> dict[str, Any]:
    ids = [token.id for token in one.drafted]
    return {"step": one.step, "drafted": ids, "accepted": one.accepted, "final": one.final.id if one.final else None}


def _finite(data: Any) -> Any:
    """The same with null for numbers that are not finite."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, list | tuple) else data
