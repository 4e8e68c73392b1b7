"""One chart as a self-contained HTML page: the drawing, its numbers, and what it was measured on."""

from __future__ import annotations

from pathlib import Path

from core.charts.chart import Chart
from core.charts.labelled import Labelled
from core.export.elements import element
from core.export.figures import figure
from core.export.html import page
from core.export.runs import configuration, definitions, environment, header
from core.files import replacing


def chart_page(chart: Chart, traces: Labelled, svg: str | None = None, dark_svg: str | None = None) -> str:
    """The page as text. svg, dark_svg: the chart drawn for light and dark ground; without them it stands as its table."""
    drawing = element("section", figure(chart.name, chart, svg, dark_svg))
    return page(traces, (header(traces), drawing, configuration(traces), environment(traces), definitions()))


def save_chart_page(path: Path, chart: Chart, traces: Labelled, svg: str | None = None, dark_svg: str | None = None) -> None:
    """Write `chart_page` to `path`. Raises RunFailed when it cannot be written."""
    text = chart_page(chart, traces, svg, dark_svg)
    with replacing(path, "w") as file:
        file.write(text)
