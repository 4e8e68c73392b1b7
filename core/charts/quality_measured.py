"""What a configuration costs in quality on a text: figures with their standard errors, and perplexity along a stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from core.charts.chart import Cell, Chart, Series, Table
from core.charts.labelled import Labelled, columns, special
from core.errors import BadInput
from core.quality.figures import FIGURES, figures, segment_figures
from core.quality.results import QualityMeasured
from core.quality.unmodified import same_quality
from core.trace import Trace

_HOW = "Press Measure in the Quality dock, or use the command quality: here "
_MEASURES = {"perplexity": "Perplexity", "mean_kl": "Mean KL divergence", "same_top1": "Share of equal top tokens"}
_UNMODIFIED = "unmodified"
_DEFINITION = (
    "Perplexity: exp(mean negative log-likelihood). Ratio: to that of the unmodified model. Mean KL: of the unmodified model's "
    "next-token distribution to this one's, over the whole vocabulary. Same top 1 (measured): share of tokens where both find "
    "the same one likeliest. ± se: standard error, from segments of the text."
)


def quality_figures(traces: Labelled) -> Chart:
    """A row for each measurement of each configuration."""
    found = [(label, measured) for label, trace in traces for measured in trace.quality]
    names = [part for name, metric in FIGURES.items() for part in (_heading(name), f"{metric.label} ± se")]
    return Chart(
        name="quality_figures",
        title="Quality on a text",
        badge="derived",
        definition=_DEFINITION,
        notes=_all_notes([measured for _, measured in found]),
        empty=f"{_HOW}perplexity, divergence and agreement stand beside the unmodified model, each with its standard error.",
        listing=Table(
            ("configuration", "techniques", "read as", *names, "tokens", "segments", "text"),
            tuple(_row(label, measured) for label, measured in found),
        ),
    )


def _heading(name: str) -> str:
    metric = FIGURES[name]
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def _row(label: str, measured: QualityMeasured) -> tuple[Cell, ...]:
    found = figures(measured.segments)
    numbers = [_rounded(found[part]) for name in FIGURES for part in (name, f"{name}_se")]
    read = "stream" if measured.mode == "stream" else f"windows of {measured.context}"
    return (label, special(measured.config), read, *numbers, int(found["tokens"] or 0), len(measured.segments), measured.text)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def quality_stream(traces: Labelled, *, measure: str = "perplexity") -> Chart:
    """Segment by segment, of the last measurement of each configuration. measure: `perplexity`, `mean_kl` or `same_top1`."""
    if measure not in _MEASURES:
        raise BadInput(f"measure={measure}: there are {', '.join(_MEASURES)}")
    found = [(label, column, last) for label, column, trace in columns(traces) if (last := _last(trace)) is not None]
    unit = FIGURES[measure].unit
    return Chart(
        name="quality_stream",
        title=f"{_MEASURES[measure]} along the text",
        badge=FIGURES[measure].badge,
        definition=f"Segment by segment: {FIGURES[measure].definition}.",
        x_label="scored token",
        y_label=f"{FIGURES[measure].label} ({unit})" if unit else FIGURES[measure].label,
        series=tuple(_series(found, measure)),
        notes=(*(_told(label, last) for label, _, last in found), *_all_notes([last for _, _, last in found])),
        empty=f"{_HOW}each configuration's perplexity runs along the text, and a drift is seen.",
    )


def _last(trace: Trace) -> QualityMeasured | None:
    """The last stream, else the last measurement."""
    streams = [measured for measured in trace.quality if measured.mode == "stream"]
    return next(reversed(streams or trace.quality), None)


def _series(found: list[tuple[str, int, QualityMeasured]], measure: str) -> Iterator[Series]:
    for label, column, measured in found:
        yield Series(label, *_points(measured, measure), "line", column)
    if measure == "perplexity" and found and not any(same_quality(last.config, last.base) for _, _, last in found):
        yield Series(_UNMODIFIED, *_points(found[0][2], "base_perplexity"), "line", 0, "other")


def _points(measured: QualityMeasured, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Middle of each segment, and its figure."""
    rows = [segment_figures(segment) for segment in measured.segments]
    return (
        np.array([row["first"] + row["tokens"] / 2 for row in rows], float),
        np.array([row[name] for row in rows], float),
    )


def _told(label: str, measured: QualityMeasured) -> str:
    found = figures(measured.segments)
    error = "" if found["perplexity_se"] is None else f" ± {found['perplexity_se']:.2g}"
    held = f"{measured.kv_tokens} tokens held at the end"
    return f"{label} ({special(measured.config)}): perplexity {found['perplexity']:.4g}{error}, {held}"


def _all_notes(measured: Sequence[QualityMeasured]) -> tuple[str, ...]:
    """Each once."""
    return tuple(dict.fromkeys(note for one in measured for note in _notes(one)))


def _notes(measured: QualityMeasured) -> Iterator[str]:
    """What must be known of how it was read."""
    if measured.mode == "stream" and measured.base_context < measured.context:
        half = measured.base_context // 2
        yield f"the unmodified model sees its last {half} to {measured.base_context} tokens: it reads anew from its recent half"
    if measured.prompt_tokens:
        yield f"the first {measured.prompt_tokens} tokens of each window are its prompt and not scored"
    if measured.context > measured.info.context:
        yield f"the stream passes the model's context of {measured.info.context} tokens"
