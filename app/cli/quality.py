"""Measure what a configuration costs in quality."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from app.cli.arguments import add_assignments, add_config, add_model, check_outputs, configured
from app.cli.outcome import interrupted
from app.cli.terminal import ProgressLine, note, say, write_json
from core import trace_file
from core.errors import BadInput
from core.events import Event, LoadProgress, QualityProgress
from core.quality.figures import FIGURES, figures, needle_json, quality_json
from core.quality.request import MeasureRequest, NeedleOptions, NeedleRequest, QualityOptions, QualityRequest, options_from
from core.quality.results import NeedleMeasured, QualityMeasured
from core.technique import options_of
from core.trace import Trace
from widgets.quantity import spoken

_READING = {option.name: option for option in options_of(QualityOptions)}
_GRID = {option.name: option for option in options_of(NeedleOptions)}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--text", default="", metavar="FILE", help="plain UTF-8 text; the default is part of Python's manual")
    add_model(parser)
    add_config(parser)
    add_assignments(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--context", type=int, metavar="N", help=_READING["context"].summary)
    how.add_argument("--stream", action="store_true", help=_READING["stream"].summary)
    how.add_argument("--needle", action="store_true", help="hide facts in the text and ask for them")
    parser.add_argument("--tokens", type=int, metavar="N", help=_summary(_READING["tokens"]))
    parser.add_argument("--prompt-tokens", type=int, metavar="N", help=_READING["prompt_tokens"].summary)
    parser.add_argument("--base-context", type=int, metavar="N", help=_summary(_READING["base_context"]))
    parser.add_argument("--lengths", metavar="N,M", help=f"with --needle: {_summary(_GRID['lengths'])}")
    parser.add_argument("--depths", metavar="N,M", help=f"with --needle: {_summary(_GRID['depths'])}".replace("%", "%%"))
    parser.add_argument("--trials", type=int, metavar="N", help=f"with --needle: {_summary(_GRID['trials'])}")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every figure with its standard error, and the segments")
    parser.add_argument("--trace", type=Path, metavar="OUT", help="write the result, to be opened in the window and exported")


def _summary(option: Any) -> str:
    return f"{option.summary} (default {option.default})"


def call(arguments: Namespace) -> int:
    check_outputs(arguments.json, arguments.trace)
    measured = _measured(request_of(arguments))
    say(report(measured))
    if arguments.json:
        write_json(quality_json(measured) if isinstance(measured, QualityMeasured) else needle_json(measured), arguments.json)
    if arguments.trace:
        trace = Trace()
        trace.add(measured)
        trace_file.save(trace, arguments.trace)
    return 0


def request_of(arguments: Namespace) -> MeasureRequest:
    """Raises BadInput for what is out of range, or belongs to the other kind of measurement."""
    config = configured(arguments, arguments.config)
    given = vars(arguments)
    known, others = (_GRID, _READING) if arguments.needle else (_READING, _GRID)
    for name in others:
        if given[name]:
            raise BadInput(f"--{name.replace('_', '-')}: goes {'without' if arguments.needle else 'with'} --needle")
    values = {name: given[name] for name in known}
    if arguments.needle:
        return NeedleRequest(config, arguments.text, options_from(NeedleOptions, values))
    return QualityRequest(config, arguments.text, options_from(QualityOptions, values))


def _measured(request: MeasureRequest) -> QualityMeasured | NeedleMeasured:
    from core.engine.engine import Engine

    show, event = _Show(), None
    show.line.show("starting the engine")
    try:
        for event in Engine().measure(request, interrupted):
            show.event(event)
        if interrupted() or not isinstance(event, QualityMeasured | NeedleMeasured):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        show.line.clear()
        note(f"inference-playground: stopped{show.where}; nothing was measured to its end")
        raise
    finally:
        show.line.clear()
    return event


class _Show:
    """How far it is: on a terminal a line that is written over and over, else one a quarter. where: in words."""

    def __init__(self) -> None:
        self.line = ProgressLine()
        self.where = ""
        self._began: float | None = None
        self._told = 0

    def event(self, event: Event) -> None:
        match event:
            case LoadProgress():
                self.line.show(f"loading: {event.stage}", event.done, event.total)
            case QualityProgress():
                self._progress(event)

    def _progress(self, now: QualityProgress) -> None:
        self._began = self._began or monotonic()
        self.where = f" at {100 * now.done // now.total} %"
        spent = monotonic() - self._began
        left = f", about {spent * (now.total - now.done) / now.done:.0f} s left" if spent > 1 else ""
        so_far = f"perplexity {now.so_far:.4g}" if now.stage == "perplexity" else f"{now.so_far:.0%} found"
        if sys.stderr.isatty():
            self.line.show(f"{so_far} so far{left}", now.done, now.total)
        elif (quarter := 4 * now.done // now.total) > self._told:
            self._told = quarter
            note(f"{25 * quarter} %, {so_far} so far{left if quarter < 4 else ''}")


def report(measured: QualityMeasured | NeedleMeasured) -> str:
    """The result as text."""
    return _quality_text(measured) if isinstance(measured, QualityMeasured) else _needle_text(measured)


def _quality_text(measured: QualityMeasured) -> str:
    found = figures(measured.segments)
    read = "one stream" if measured.mode == "stream" else f"windows of {measured.context} tokens"
    lines = [f"{spoken(found['tokens'])} tokens of {measured.text}, in {read}"]
    for name, metric in FIGURES.items():
        error = found[f"{name}_se"]
        spread = "" if error is None else f" ± {spoken(error)}"
        lines.append(
            f"{metric.label:12}{spoken(found[name])}{spread}{' ' if metric.unit else ''}{metric.unit} ({metric.badge})"
        )
    lines.append(f"± is one standard error, over {len(measured.segments)} segments of the text")
    return "\n".join(lines)


def _needle_text(measured: NeedleMeasured) -> str:
    width = max(9, *(len(str(length)) + 2 for length in measured.lengths))
    return "\n".join(
        [
            *_table("found (measured)", measured, measured.recall, "{:.0%}", width),
            *_table(
                "log-probability of the answer, nats a token (measured)", measured, measured.log_probability, "{:.2f}", width
            ),
        ]
    )


def _table(title: str, measured: NeedleMeasured, values: Any, form: str, width: int) -> Sequence[str]:
    head = f"{'depth':8}" + "".join(f"{length:>{width}}" for length in measured.lengths)
    rows = (
        f"{f'{depth} %':8}" + "".join(f"{form.format(value):>{width}}" for value in row)
        for depth, row in zip(measured.depths, values, strict=True)
    )
    return [title, head, *rows]
