"""The figures as an aligned table of text, and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from core.bench.figures import MBU, MFU, MFU32, Peaks, Ratio, Row, agreement, rows_of
from core.bench.run import Measured, Record
from core.compare import Spread

_SCALES = {"B": (2**20, "MiB")}
_NONE, _MARK = "–", "~"
INTERVAL = (
    "medians over the rounds; in brackets the smallest and the largest value with up to eight rounds, and the 95 % interval of "
    "the median with more; rounds in which other programs took more than a tenth of the processors are left out\n"
    "ratios are of medians; in brackets, of the rounds that count for both"
)
_DISTURBED = (
    f"{_MARK}: other programs took more than a tenth of the processors in every round; engines whose threads wait by spinning "
    "suffer most"
)

Line = tuple[str, ...]


def text_of(record: Record) -> str:
    """The tables that are printed."""
    rows = [each for each in rows_of(record) if each.metric != MFU32]
    parts = [_heading(record), aligned([_heads(record), *(_cells(each) for each in rows)]), INTERVAL]
    if ratios := _ratios(record, rows):
        parts.append(aligned(ratios))
    return "\n\n".join([*parts, "\n".join(_notes(record, rows))])


def _heading(record: Record) -> str:
    settings, peaks = record.settings, Peaks.of(record.peaks)
    lines = [f"{record.info.name}; threads: {settings.threads}, rounds: {settings.rounds}, decoded tokens: {settings.tokens}"]
    if peaks is not None:
        products = f"products {peaks.float32 / 1e9:,.0f} GFLOP/s in float32, {peaks.bfloat16 / 1e9:,.0f} in bfloat16"
        lines.append(f"this machine: {record.environment['processor']}, reads {peaks.read / 1e9:.1f} GB/s, {products}")
    return "\n".join(lines)


def _heads(record: Record) -> Line:
    return ("", *(each.column.label for each in record.measured))


def _cells(row: Row) -> Line:
    cells = (_cell(each, row.metric.unit) for each in row.spreads)
    return (_named(row), *(f"{_MARK}{cell}" if index in row.disturbed else cell for index, cell in enumerate(cells)))


def _named(row: Row) -> str:
    unit = _SCALES.get(row.metric.unit, (1, row.metric.unit))[1]
    return f"{_place(row)}{f', {unit}' if unit else ''}"


def _place(row: Row) -> str:
    return f"{row.metric.label} at {row.context:,}" if row.context else row.metric.label


def _cell(spread: Spread | None, unit: str) -> str:
    if spread is None:
        return _NONE
    scale = _SCALES.get(unit, (1, unit))[0]
    return _between(spread.median / scale, None if spread.low is None else (spread.low / scale, (spread.high or 0) / scale))


def _between(middle: float, ends: tuple[float, float] | None) -> str:
    if ends is None or ends[0] == ends[1]:
        return short(middle)
    return f"{short(middle)} [{short(ends[0])}–{short(ends[1])}]"


def short(value: float) -> str:
    """Three significant digits, whole numbers in full."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _ratios(record: Record, rows: Sequence[Row]) -> list[Line]:
    """The first of ours against every other engine; nothing where there is none of ours, or no other."""
    mine = next((index for index, each in enumerate(record.measured) if each.column.ours and not each.error), None)
    others = [index for index, each in enumerate(record.measured) if index != mine and not each.error]
    if mine is None or not others:
        return []
    label = record.measured[mine].column.label
    heads = (f"{label} over …", *(record.measured[other].column.label for other in others), "better")
    lines = [
        (_place(each), *(_ratio(each.ratio(mine, other)) for other in others), _better(each))
        for each in rows
        if each.metric not in (MBU, MFU)
    ]
    return [heads, *lines]


def _better(row: Row) -> str:
    return "more" if row.metric.more else "less"


def _ratio(ratio: Ratio | None) -> str:
    if ratio is None:
        return _NONE
    rounds = ratio.rounds
    ends = None if rounds is None or rounds.low is None or rounds.high is None else (rounds.low, rounds.high)
    return _between(ratio.of_medians, ends)


def _notes(record: Record, rows: Sequence[Row]) -> list[str]:
    notes = [_DISTURBED] if any(each.disturbed for each in rows) else []
    notes += sorted({f"{each.column.engine}: {each.memory['about']}" for each in record.measured if each.memory})
    notes += [f"{each.column.label}: not measured: {each.error}" for each in record.measured if each.error]
    first = record.measured[0].column.label
    for each, shared in zip(record.measured[1:], agreement(record)[1:]):
        if shared is not None:
            same, compared = shared
            notes.append(f"{each.column.label}: of {compared} greedy tokens the first {same} are those of {first}")
    return notes


def aligned(lines: Sequence[Line]) -> str:
    """Cells of equal width, line by line."""
    widths = [max(map(len, cells)) for cells in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def to_dict(record: Record) -> dict[str, Any]:
    """Plain JSON: everything that was measured and what follows from it."""
    peaks, rows = Peaks.of(record.peaks), rows_of(record)
    return {
        "environment": record.environment,
        "model": dataclasses.asdict(dataclasses.replace(record.info, chat_template=None)),
        "settings": dataclasses.asdict(record.settings),
        "peaks": {"best": None if peaks is None else dataclasses.asdict(peaks), "rounds": list(record.peaks)},
        "interval": INTERVAL,
        "engines": [_engine(each, shared) for each, shared in zip(record.measured, agreement(record))],
        "metrics": [_metric(record, each) for each in rows],
    }


def _engine(measured: Measured, shared: tuple[int, int] | None) -> dict[str, Any]:
    return {
        **dataclasses.asdict(measured.column),
        "error": measured.error,
        "memory": measured.memory,
        "loaded": measured.loaded,
        "tokens_as_the_first": None if shared is None else {"same": shared[0], "compared": shared[1]},
        "rounds": [
            {"measure": measure.name, "context": measure.context, "answers": answers}
            for measure, answers in measured.rounds.items()
        ],
    }


def _metric(record: Record, row: Row) -> dict[str, Any]:
    labels = [each.column.label for each in record.measured]
    ours = [index for index, each in enumerate(record.measured) if each.column.ours]
    pairs = [(one, other) for one in ours for other in range(len(labels)) if other != one]
    return {
        **dataclasses.asdict(row.metric),
        "context": row.context or None,
        "disturbed": [labels[index] for index in sorted(row.disturbed)],
        "columns": {label: {"rounds": values, **_plain(each)} for label, values, each in zip(labels, row.values, row.spreads)},
        "ratios": [{"of": labels[one], "to": labels[other], **_plain_ratio(row.ratio(one, other))} for one, other in pairs],
    }


def _plain(spread: Spread | None) -> dict[str, Any]:
    return {"median": None, "low": None, "high": None} if spread is None else {
        "median": spread.median, "low": spread.low, "high": spread.high,
    }  # fmt: skip


def _plain_ratio(ratio: Ratio | None) -> dict[str, Any]:
    return {"of_medians": None if ratio is None else ratio.of_medians, **_plain(None if ratio is None else ratio.rounds)}
