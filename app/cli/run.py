"""Run a prompt."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from app.cli.arguments import add_config, add_model, add_prompt, add_settings, chat_of, check_outputs, configured, prompt_of
from app.cli.outcome import interrupted
from app.cli.terminal import ProgressLine, note, say, write_json
from core import trace_file
from core.events import INSPECT, MEASURE, Event, Inspect, LoadProgress, PrefillProgress, RunRequest, TextDelta
from core.export.tables import run_json
from core.trace import Trace
from widgets.quantity import spoken


def add_arguments(parser: ArgumentParser) -> None:
    add_prompt(parser)
    add_model(parser)
    add_config(parser)
    add_settings(parser)
    parser.add_argument("--inspect", action="store_true", help="record attention, routing and alternatives; this costs time")
    parser.add_argument("--inspect-layers", metavar="LAYERS", help="the same, but attention of these alone: 0-9, last:8")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write tokens, metrics and phases")
    parser.add_argument("--trace", type=Path, metavar="OUT", help="write the whole run, to be opened in the window")


def call(arguments: Namespace) -> int:
    check_outputs(arguments.json, arguments.trace)
    config = configured(arguments, arguments.config)
    request = RunRequest(config, prompt_of(arguments), chat_of(arguments, config), inspect=_inspect(arguments))
    trace = stream(_events(request))
    note(summary(trace))
    if arguments.json:
        write_json(run_json(trace), arguments.json)
    if arguments.trace:
        trace_file.save(trace, arguments.trace)
    return 0


def _inspect(arguments: Namespace) -> Inspect:
    """What is to be recorded."""
    if arguments.inspect_layers is not None:
        return replace(INSPECT, attention_layers=arguments.inspect_layers)
    return INSPECT if arguments.inspect else MEASURE


def _events(request: RunRequest) -> Iterator[Event]:
    from core.engine.engine import Engine

    yield from Engine().run(request, interrupted)
    if interrupted():
        raise KeyboardInterrupt


def stream(events: Iterable[Event]) -> Trace:
    """Show the text as it comes, and what goes before it; the finished run."""
    trace, line = Trace(), ProgressLine()
    line.show("starting the engine")
    for event in events:
        trace.add(event)
        match event:
            case LoadProgress():
                line.show(f"loading: {event.stage}", event.done, event.total)
            case PrefillProgress() if event.done < event.total:
                line.show("reading the prompt", event.done, event.total)
            case TextDelta():
                line.clear()
                say(event.text, end="")
    line.clear()
    say("")
    return trace


def summary(trace: Trace) -> str:
    """The run in one line."""
    assert trace.started is not None
    assert trace.finished is not None
    metrics, reason = trace.finished.metrics, trace.finished.reason
    parts = [
        trace.started.info.name,
        f"{len(trace.prompt_tokens)} prompt tokens",
        f"{len(trace.tokens)} new tokens ({reason})",
        f"TTFT {spoken(metrics['ttft_ms'], 'ms')}",
        f"decode {spoken(metrics['decode_tokens_per_s'], 'tok/s')}",
        f"weights {spoken(metrics['weight_bytes'], 'B')}",
        f"KV {spoken(metrics['kv_bytes'], 'B')}",
    ]
    if metrics["acceptance_rate"] is not None:
        parts.append(f"accepted {metrics['acceptance_rate']:.0%} of drafted tokens")
    return " · ".join(parts)
