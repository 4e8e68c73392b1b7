"""Which charts a report holds, and their place in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from core.charts.catalogue import CHARTS, Builder
from core.charts.chart import Chart, has_data
from core.charts.comparison import COMPARISON_CHARTS
from core.charts.labelled import Labelled
from core.compare import Comparison

DRAWN = (640, 400)  # CSS pixels of a drawing: two stand side by side

# More than one view of a chart, by its selection.
_VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "attention_summary": ({"measure": "entropy"}, {"measure": "first"}, {"measure": "kept"}),
    "quality_stream": ({"measure": "perplexity"}, {"measure": "mean_kl"}),
    "needle": ({"measure": "log_probability"}, {"measure": "recall"}),
}


def report_charts(traces: Labelled, comparison: Comparison | None = None) -> dict[str, Chart]:
    """Every chart that has data, by a key that is unique in the report. Give the drawn ones to `report` under these keys."""
    compared = _compared(traces, comparison) if comparison is not None else ()
    charts = {key: chart for builder in CHARTS.values() for key, chart in _built(builder, traces)}
    return {key: chart for key, chart in (*compared, *charts.items()) if has_data(chart)}


def section_of(chart: Chart) -> str:
    """The heading under which the chart stands."""
    return "Comparison" if chart.name in COMPARISON_CHARTS else CHARTS[chart.name].dock.capitalize()


def _compared(traces: Labelled, comparison: Comparison) -> Iterator[tuple[str, Chart]]:
    labels = [label for label, _ in traces]
    drawn = (item for item in COMPARISON_CHARTS.items() if item[0] != "comparison_table")  # the report has its own
    return ((name, build(comparison, labels)) for name, build in drawn)


def _built(builder: Builder, traces: Labelled) -> Iterator[tuple[str, Chart]]:
    for number, selection in enumerate(_VARIANTS.get(builder.name, ({},))):
        key = f"{builder.name}-{number}" if number else builder.name
        if builder.single:
            yield from _single(builder, key, traces, selection)
        else:
            yield key, builder.build(traces, **selection)


def _single(builder: Builder, key: str, traces: Labelled, selection: dict[str, Any]) -> Iterator[tuple[str, Chart]]:
    """A chart of one trace for each of them. Only `kept` looks at the others too."""
    for index, one in enumerate(traces):
        others = [*traces[:index], *traces[index + 1 :]] if selection.get("measure") == "kept" else []
        chart = builder.build([one, *others], **selection)
        title = f"{one[0]}: {chart.title}" if len(traces) > 1 else chart.title
        yield f"{key}-{one[0]}", replace(chart, title=title)
