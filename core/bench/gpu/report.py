"""The measured grid beside the published one: rows for CSV and JSON, and a table of text."""

from __future__ import annotations

import csv
import dataclasses
import io
from functools import cache
from pathlib import Path
from typing import Any

from core.bench.gpu.grid import Times, cells, end_to_end
from core.bench.gpu.run import BESIDE, GridRecord
from core.bench.report import aligned, short

NEW_TOKENS = 128  # of an end-to-end run; the survey does not state its own
_FRAMEWORKS = ("TensorRT-LLM", "LMDeploy")
_PHASES = ("prefill", "decode", "end_to_end")
_PACKED = ("W4A16", "W8A16")
SOURCE = (
    "published: Table 4 of Zhou et al. 2024 (arXiv 2404.14294), AWQ on one A100, its output length not stated; a note marks "
    f"cells that cannot be right there. measured: end to end is a prompt and {NEW_TOKENS} tokens"
)

Row = dict[str, Any]


@cache
def published() -> dict[tuple[str, str, int, int], Row]:
    """By framework, model, batch size and context: speedups, None where the table has none, and the note."""
    with Path(__file__).with_name("survey_table4.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    return {
        (line["framework"], line["model"], int(line["batch_size"]), int(line["context_tokens"])): {
            **{phase: float(line[f"{phase}_speedup"]) if line[f"{phase}_speedup"] else None for phase in _PHASES},
            "note": line["note"],
        }
        for line in lines
    }


def rows_of(record: GridRecord) -> list[Row]:
    """A row for each model, batch size and context."""
    places = cells(record.settings.batches, record.settings.contexts)
    return [_row(record, name, batch, context) for name in record.settings.shapes for batch, context in places]


def _row(record: GridRecord, name: str, batch: int, context: int) -> Row:
    times = {weights: record.times.get((name, weights, batch, context)) for weights in record.settings.formats}
    row: Row = {"model": name, "batch_size": batch, "context_tokens": context}
    for weights in _PACKED:
        row |= {f"{weights} {phase}": ratio for phase, ratio in _speedups(times.get("FP16"), times.get(weights)).items()}
    for weights, one in times.items():
        row |= {f"{weights} {what}": value for what, value in _figures(record, one).items()}
    for framework in _FRAMEWORKS:
        known = published().get((framework, name, batch, context), dict.fromkeys(_PHASES) | {"note": ""})
        row |= {f"{framework} {what}": value for what, value in known.items()}
    return row


def _speedups(base: Times | None, other: Times | None) -> dict[str, float | None]:
    if base is None or other is None:
        return dict.fromkeys(_PHASES)
    whole = end_to_end(base, NEW_TOKENS) / end_to_end(other, NEW_TOKENS)
    return {"prefill": base.prefill / other.prefill, "decode": base.step / other.step, "end_to_end": whole}


def _figures(record: GridRecord, times: Times | None) -> dict[str, float | None]:
    if times is None:
        return dict.fromkeys(("prefill_ms", "step_ms", "mbu"))
    mbu = times.step_bytes / times.step / record.bandwidth if record.bandwidth else None
    return {"prefill_ms": times.prefill * 1000, "step_ms": times.step * 1000, "mbu": mbu}


def to_csv(record: GridRecord) -> str:
    rows, text = rows_of(record), io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _rounded(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _rounded(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


def to_dict(record: GridRecord) -> dict[str, Any]:
    """Plain JSON: what was measured, and what follows from it."""
    return {
        "environment": record.environment,
        "settings": dataclasses.asdict(record.settings),
        "source": SOURCE,
        "peaks": {"bytes_per_second": record.bandwidth, "float16_operations_per_second": record.speed},
        "grid": rows_of(record),
        "transformers": {
            name: {"context": BESIDE, "step_ms": seconds * 1000, "ratio_to_ours": _over(record, name, seconds)}
            for name, seconds in record.steps.items()
        },
        "products": record.products,
    }


def _over(record: GridRecord, name: str, seconds: float) -> dict[str, float]:
    """transformers' step over ours in each format, at the same context."""
    ours = {weights: record.times.get((name, weights, 1, BESIDE)) for weights in record.settings.formats}
    return {weights: seconds / times.step for weights, times in ours.items() if times is not None}


def text_of(record: GridRecord) -> str:
    """What is printed."""
    heads = ("model", "batch", "context", *(f"{name}, {phase}" for name in ("W4A16", *_FRAMEWORKS) for phase in _PHASES), "MBU")
    lines = [tuple(map(str, heads))]
    for row in rows_of(record):
        cell = (row[f"{name} {phase}"] for name in ("W4A16", *_FRAMEWORKS) for phase in _PHASES)
        mbu = "/".join(_short(row.get(f"{weights} mbu")) for weights in ("FP16", "W4A16"))
        lines.append((row["model"], str(row["batch_size"]), str(row["context_tokens"]), *map(_short, cell), mbu))
    peaks = (
        f"{record.environment['device']}: {(record.bandwidth or 0) / 1e12:.2f} TB/s, {(record.speed or 0) / 1e12:.0f} TFLOP/s"
    )
    beside = [
        f"{name}: a step of transformers' generate takes {seconds * 1000:.2f} ms at {BESIDE} tokens, "
        + ", ".join(f"{ratio:.1f} times ours in {weights}" for weights, ratio in _over(record, name, seconds).items())
        for name, seconds in record.steps.items()
    ]
    return "\n\n".join([f"{peaks} (float16)", aligned(lines), SOURCE, *beside])


def _short(value: float | None) -> str:
    return "–" if value is None else short(value)
