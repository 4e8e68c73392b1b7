"""Charts and reports as files, in every format. Whatever is drawn needs a Qt application."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from app.failures import during
from core.charts.chart import Chart, has_data
from core.charts.labelled import Labelled
from core.compare import Comparison
from core.errors import BadInput
from core.export.chart_page import save_chart_page
from core.export.html import save_report
from core.export.report_charts import DRAWN, report_charts
from core.export.tables import save_chart_data
from widgets.render import save_chart, svg_text

NUMBERS = (".csv", ".json")
PICTURES = (".png", ".svg", ".pdf")
PAGE = ".html"
ENDINGS = (*PICTURES, *NUMBERS, PAGE)
THEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")


def check_ending(path: Path) -> None:
    """Raise BadInput when no format has the file's ending."""
    if path.suffix.lower() not in ENDINGS:
        raise BadInput(f"{path}: the ending decides the format, and must be one of {', '.join(ENDINGS)}")


def export_chart(chart: Chart, traces: Labelled, path: Path) -> None:
    """Write a chart of `traces` in the format of the file's ending.

    Raises BadInput for an ending of no format and for a chart that shows nothing, RunFailed when the file cannot be written.
    """
    check_ending(path)
    if not has_data(chart):
        hint = f" ({chart.empty})" if chart.empty else ""
        raise BadInput(f"{path} is not written: the chart “{chart.title}” has no data{hint}")
    with during(f"the chart “{chart.title}” could not be exported"):
        _save(chart, traces, path, path.suffix.lower())


def _save(chart: Chart, traces: Labelled, path: Path, ending: str) -> None:
    if ending in PICTURES:
        save_chart(chart, path)
    elif ending in NUMBERS:
        save_chart_data(chart, path)
    else:
        save_chart_page(path, chart, traces, *_drawings(chart))


def export_report(traces: Labelled, path: Path, comparison: Comparison | None = None) -> None:
    """Write everything about the runs as one page. Raises BadInput without a run, RunFailed when it cannot be written."""
    charts = {key: chart for key, chart in report_charts(traces, comparison).items() if chart.listing is None}
    light, dark = ({key: svg_text(chart, DRAWN, theme) for key, chart in charts.items()} for theme in THEMES)
    save_report(path, traces, comparison, light, dark)


def _drawings(chart: Chart) -> tuple[str | None, str | None]:
    """For light and for dark ground; a chart of text has none."""
    if chart.listing is not None:
        return None, None
    return svg_text(chart), svg_text(chart, theme="dark")
