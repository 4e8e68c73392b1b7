"""Export a chart of recorded runs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from app import qt
from app.cli.arguments import check_outputs
from app.session import LETTERS
from core import trace_file
from core.charts.catalogue import CHARTS, build
from core.errors import BadInput


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "trace", type=Path, nargs="+", metavar="TRACE", help="a recorded run; up to four stand side by side as A, B, C and D"
    )
    parser.add_argument("--chart", required=True, metavar="NAME", help=", ".join(CHARTS))
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="in .png, .svg, .pdf, .csv, .json or .html")
    parser.add_argument(
        "--select", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="such as layer=3 head=0, of some charts"
    )


def call(arguments: Namespace) -> int:
    check_outputs(arguments.out)
    if len(arguments.trace) > len(LETTERS):
        raise BadInput(f"TRACE: at most four runs stand side by side, not {len(arguments.trace)}")
    traces = [(letter, trace_file.load(path)) for letter, path in zip(LETTERS, arguments.trace)]
    chart = build(arguments.chart, traces, **dict(map(_selection, arguments.select)))
    with qt.offscreen():
        from app.exports import export_chart

        export_chart(chart, traces, arguments.out)
    return 0


def _selection(text: str) -> tuple[str, int | str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"--select {text}: write key=value, such as layer=3")
    return key, int(value) if value.removeprefix("-").isdigit() else value
