"""One self-contained HTML report of a run or a comparison: no network, no script, dark or light by the reader's system."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from core.charts.labelled import Labelled
from core.compare import Comparison
from core.errors import BadInput
from core.export.elements import Markup, element
from core.export.figures import chart_sections
from core.export.runs import configuration, definitions, environment, header, metrics, model, prompt, summary
from core.export.streams import streams
from core.export.style import style_sheet
from core.files import replacing

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def report(
    traces: Labelled,
    comparison: Comparison | None = None,
    svgs: Mapping[str, str] | None = None,
    dark_svgs: Mapping[str, str] | None = None,
) -> str:
    """The report as text. svgs: drawings by the keys of `report_charts`, for light ground and of the size `DRAWN`;
    dark_svgs: the same for dark ground.

    A chart that is not drawn stands as its table. Raises BadInput when there is no run to report.
    """
    begun = [(label, trace) for label, trace in traces if trace.subject is not None]
    if not begun:
        raise BadInput("there is no run to report: run first, or open a trace")
    ran = any(trace.started is not None for _, trace in begun)
    parts = (
        header(begun), *((summary(begun, comparison), prompt(begun), streams(begun)) if ran else ()), configuration(begun),
        *((metrics(begun, comparison),) if ran else ()), *chart_sections(begun, comparison, svgs or {}, dark_svgs or {}),
        model(begun), environment(begun), definitions(),
    )  # fmt: skip
    return page(begun, parts)


def page(traces: Labelled, parts: Iterable[Markup]) -> str:
    """A whole document about `traces`, with `parts` as its body."""
    body = element("body", element("main", *parts, element("footer", "Inference Playground")))
    return f"<!DOCTYPE html>\n{element('html', _head(traces), body, lang='en')}\n"


def save_report(
    path: Path,
    traces: Labelled,
    comparison: Comparison | None = None,
    svgs: Mapping[str, str] | None = None,
    dark_svgs: Mapping[str, str] | None = None,
) -> None:
    """Write `report` to `path`. Raises BadInput without a run, RunFailed when it cannot be written."""
    text = report(traces, comparison, svgs, dark_svgs)
    with replacing(path, "w") as file:
        file.write(text)


def _head(traces: Labelled) -> Markup:
    subject = traces[0][1].subject
    name = subject.info.name if subject else ""
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("title", f"{name}: {', '.join(label for label, _ in traces)} · Inference Playground"),
        element("style", Markup(style_sheet())),
    )
