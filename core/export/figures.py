"""Charts in the report: the drawing, and its numbers as a table that opens below it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from core.charts.chart import Chart, Heatmap, table
from core.charts.labelled import Labelled
from core.compare import Comparison
from core.export.elements import Markup, element, table_element
from core.export.report_charts import report_charts, section_of

_MOST_ROWS, _MOST_CELLS = 5_000, 20_000
_PROLOG = re.compile(r"^.*?(?=<svg\b)", re.DOTALL)
_IDS = re.compile(r'(\bid="|url\(#|href="#)')


def chart_sections(
    traces: Labelled, comparison: Comparison | None, svgs: Mapping[str, str], dark_svgs: Mapping[str, str]
) -> Iterator[Markup]:
    """A section for each dock that has something to show."""
    charts = report_charts(traces, comparison)
    for section in dict.fromkeys(map(section_of, charts.values())):
        members = [key for key, chart in charts.items() if section_of(chart) == section]
        figures = (figure(key, charts[key], svgs.get(key), dark_svgs.get(key)) for key in members)
        yield element("section", element("h2", section), element("div", *figures, class_="figures-grid"))


def figure(key: str, chart: Chart, svg: str | None, dark_svg: str | None = None) -> Markup:
    """One chart. Without a drawing, or for a chart of text, its heading and its table."""
    if chart.listing is not None:
        twin = table_element(chart.listing.columns, chart.listing.rows)
        return element("figure", _heading(chart), twin, _notes(chart), class_="card wide", id=key)
    numbers = element("details", element("summary", "Numbers"), *(() if svg is None else (_about(chart),)), _twin(chart))
    drawn = () if svg is None else (_drawing(svg, f"{key}-light", "light"),)
    dark = () if svg is None or dark_svg is None else (_drawing(dark_svg, f"{key}-dark", "dark"),)
    heading = _heading(chart) if svg is None else Markup()
    notes = _notes(chart) if svg is None else Markup()
    return element("figure", heading, *drawn, *dark, numbers, notes, class_="card", id=key, aria_label=chart.title)


def _heading(chart: Chart) -> Markup:
    title = element("h3", f"{chart.title}  ", badge(chart.badge))
    return Markup(title + element("p", chart.definition, class_="muted small"))


def badge(name: str) -> Markup:
    """A badge as it stands beside a number."""
    return element("span", name, class_=f"badge {name}")


def _notes(chart: Chart) -> Markup:
    return element("figcaption", "  ·  ".join(chart.notes)) if chart.notes else Markup()


def _about(chart: Chart) -> Markup:
    return element("p", badge(chart.badge), f"  {' '.join((chart.definition, *chart.notes))}", class_="muted small")


def _drawing(svg: str, prefix: str, theme: str) -> Markup:
    """The drawing inline. Ids get a prefix, so that those of several drawings stay apart."""
    inline = _IDS.sub(lambda found: f"{found.group(1)}{prefix}-", _PROLOG.sub("", svg, count=1))
    return element("div", Markup(inline), class_=theme)


def _twin(chart: Chart) -> Markup:
    if chart.heatmap is not None:
        return _matrix(chart, chart.heatmap)
    twin = table(chart)
    more = len(twin.rows) - _MOST_ROWS
    note = element("p", f"The first {_MOST_ROWS} of {len(twin.rows)} rows; the CSV export holds all.", class_="small")
    return Markup((note if more > 0 else "") + table_element(twin.columns, twin.rows[:_MOST_ROWS]))


def _matrix(chart: Chart, heatmap: Heatmap) -> Markup:
    """Rows and columns as in the drawing."""
    if heatmap.values.size > _MOST_CELLS:
        return element("p", f"{heatmap.values.size} cells; the CSV export holds them.", class_="small")
    values = [[None if value != value else value for value in row] for row in heatmap.values.tolist()]
    rows = ((label, *row) for label, row in zip(heatmap.row_labels, values, strict=True))
    corner = f"{chart.y_label} \\ {chart.x_label}"
    return table_element((corner, *heatmap.column_labels), rows, heatmap.unit)
