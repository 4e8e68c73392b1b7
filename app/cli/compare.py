"""Compare configurations."""

from __future__ import annotations

import dataclasses
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.cli.arguments import add_model, add_prompt, add_settings, chat_of, check_outputs, configured, prompt_of
from app.cli.outcome import interrupted
from app.cli.terminal import ProgressLine, say, write_json
from app.drawing import export_report_apart
from core.compare import Agreement, Comparison, MetricComparison, Spread, compare, summarise
from core.config import RunConfig
from core.errors import BadInput
from core.events import INSPECT, CompareProgress, Event, Inspect, LoadProgress, RunFinished, RunRequest, TextDelta
from core.export.tables import run_json
from core.metrics import METRICS
from core.trace import Trace
from widgets.config_text import headline
from widgets.quantity import spoken

LETTERS = "ABCD"
_ALTERNATIVES = Inspect(top=256)  # of the warm-ups: what the divergence between distributions is computed from
_SHOWN = ("ttft_ms", "tpot_ms", "decode_tokens_per_s", "acceptance_rate", "weight_bytes", "kv_bytes", "peak_memory_bytes")

Runs = list[list[Trace]]  # of each column: the warm-up, then the repeats


def add_arguments(parser: ArgumentParser) -> None:
    add_prompt(parser)
    parser.add_argument(
        "--config", required=True, action="append", type=Path, metavar="FILE", help="a JSON configuration; give two to four"
    )
    add_model(parser)
    add_settings(parser)
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="measured rounds (default 5)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write numbers, intervals, tokens and runs")
    parser.add_argument("--html", type=Path, metavar="OUT", help="write a self-contained report; its warm-ups are inspected")


def call(arguments: Namespace) -> int:
    check_outputs(arguments.json, arguments.html)
    if not 2 <= len(arguments.config) <= len(LETTERS):
        raise BadInput(f"--config: give two to four configurations, not {len(arguments.config)}")
    if not 1 <= arguments.repeats <= 100:
        raise BadInput(f"--repeats: {arguments.repeats} is out of range, 1 to 100")
    configs = [configured(arguments, path) for path in arguments.config]
    prompt, inspect = prompt_of(arguments), INSPECT if arguments.html else _ALTERNATIVES
    requests = [RunRequest(config, prompt, chat_of(arguments, config), inspect=inspect) for config in configs]
    runs = run_all(requests, arguments.repeats)
    comparison = summarise(runs)
    say(report(comparison, runs))
    if arguments.json:
        write_json(record_of(runs, comparison), arguments.json)
    if arguments.html:
        write_report(runs, comparison, arguments.html)
    return 0


def run_all(requests: Sequence[RunRequest], repeats: int) -> Runs:
    """Run and show the text of the warm-ups as it comes; the traces of each column, its warm-up first."""
    from core.engine.engine import Engine

    show = _Show([request.config for request in requests])
    runs: Runs = [[] for _ in requests]
    for column, event in compare(Engine(), requests, repeats, interrupted):
        if isinstance(event, CompareProgress):
            runs[column].append(Trace())
        else:
            runs[column][-1].add(event)
        show.event(column, event)
    if interrupted():
        raise KeyboardInterrupt
    show.line.clear()
    return runs


class _Show:
    """The texts of the warm-ups, and how far the repeats are."""

    def __init__(self, configs: Sequence[RunConfig]) -> None:
        self._configs = configs
        self._warming = False
        self.line = ProgressLine()

    def event(self, column: int, event: Event) -> None:
        match event:
            case CompareProgress():
                self._begin(event)
            case LoadProgress():
                self.line.show(f"loading: {event.stage}", event.done, event.total)
            case TextDelta() if self._warming:
                self.line.clear()
                say(event.text, end="")
            case RunFinished() if self._warming:
                say("\n")

    def _headline(self, column: int) -> str:
        """What sets a column apart, without the limits that are the same for all of them."""
        config = self._configs[column]
        plain = dataclasses.replace(config, run=RunConfig().run) if len({each.run for each in self._configs}) == 1 else config
        return headline(plain)

    def _begin(self, event: CompareProgress) -> None:
        self._warming = event.repeat == 0
        if self._warming:
            self.line.clear()
            say(f"{LETTERS[event.column]}: {self._headline(event.column)}")
        else:
            count = len(self._configs)
            done = count * (event.repeat - 1) + event.column
            self.line.show(f"round {event.repeat} of {event.repeats}", done, count * event.repeats)


def report(comparison: Comparison, runs: Runs) -> str:
    """The comparison as text: a row a metric, then where the tokens part."""
    heads = ("", *LETTERS[: len(runs)], "")
    rows = [_row(comparison.metric(name)) for name in _SHOWN if any(comparison.metric(name).columns)]
    widths = [max(map(len, cells)) for cells in zip(heads, *rows)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in (heads, *rows)]
    return "\n".join([*lines, comparison.interval, *(_parting(one, runs) for one in comparison.agreements[1:])])


def _row(metric: MetricComparison) -> tuple[str, ...]:
    known = METRICS[metric.name]
    noisy = [LETTERS[column] for column, noise in enumerate(metric.noise) if noise]
    note = f"{' and '.join(noisy)} against A: noise" if noisy else ""
    return (f"{known.label} ({known.badge})", *(_cell(one, known.unit) for one in metric.columns), note)


def _cell(spread: Spread | None, unit: str) -> str:
    if spread is None:
        return "unavailable"
    if spread.low is None or spread.low == spread.high:
        return spoken(spread.median, unit)
    return f"{spoken(spread.median, unit)} [{spoken(spread.low, unit)} – {spoken(spread.high, unit)}]"


def _parting(one: Agreement, runs: Runs) -> str:
    """Whether, and where, a column's tokens part from A's."""
    letter = LETTERS[one.column]
    if one.tokens_equal is None:
        return f"{letter} read another prompt than A: tokens are not compared"
    kl = "" if one.kl is None else f"; mean KL over {one.positions} shared positions at least {one.kl:.2g} nats"
    if one.first_divergence is None:
        return f"{letter} wrote the same {len(runs[0][0].tokens)} tokens as A{kl}"
    mine, its = (_token(runs[column][0], one.first_divergence) for column in (one.column, 0))
    return f"{letter} parts from A at token {one.first_divergence + 1}: {mine} where A has {its}{kl}"


def _token(trace: Trace, index: int) -> str:
    return repr(trace.tokens[index].text) if index < len(trace.tokens) else "the end"


def write_report(runs: Runs, comparison: Comparison, path: Path) -> None:
    """The report shows the warm-ups, which were inspected, and compares the measured rounds."""
    export_report_apart([(letter, column[0]) for letter, column in zip(LETTERS, runs)], path, comparison)


def record_of(runs: Runs, comparison: Comparison) -> dict[str, Any]:
    """columns: each with its warm-up run and the metrics of its measured rounds; then the comparison."""
    columns = [
        {
            "label": letter,
            **run_json(column[0]),
            "repeats": [trace.finished.metrics for trace in column[1:] if trace.finished is not None],
        }
        for letter, column in zip(LETTERS, runs)
    ]
    return {"columns": columns, **comparison.to_dict()}
