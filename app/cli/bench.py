"""Measure speed and memory against other engines."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from app.cli.arguments import add_model, check_outputs
from app.cli.terminal import ProgressLine, note, say, write_json
from core.bench.columns import ENGINES, columns_of
from core.bench.plan import Settings
from core.bench.report import text_of, to_dict
from core.bench.run import Progress, run
from core.config import RunConfig
from core.environment import cores
from core.errors import BadInput

_FORMATS = "native,cast:bfloat16,rtn:8"
_CONTEXTS = "128,1024,4096"


def add_arguments(parser: ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "--engines",
        default=",".join(ENGINES),
        metavar="A,B",
        help=f"of {', '.join(ENGINES)} (default all); llama.cpp needs the optional package llama-cpp-python",
    )
    parser.add_argument(
        "--weights",
        default=_FORMATS,
        metavar="A,B",
        help=f"weights techniques of the local engine, each with its first option (default {_FORMATS})",
    )
    parser.add_argument("--contexts", default=_CONTEXTS, metavar="N,M", help=f"tokens held (default {_CONTEXTS})")
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="tokens decoded each time (default 64)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds in turns (default 5)")
    parser.add_argument("--threads", type=int, default=cores(), metavar="N", help=f"of every engine (default {cores()})")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every value, and the ratios of all engines")


def call(arguments: Namespace) -> int:
    check_outputs(arguments.json)
    settings = settings_of(arguments)
    show = _Show()
    try:
        record = run(settings, show.progress)
    finally:
        show.line.clear()
    say(text_of(record))
    if arguments.json:
        write_json(to_dict(record), arguments.json)
    return 0


def settings_of(arguments: Namespace) -> Settings:
    """Raises BadInput for what cannot be measured."""
    return Settings(
        arguments.model or RunConfig().model,
        columns_of(_parts(arguments.engines), _parts(arguments.weights)),
        _contexts(arguments.contexts),
        _within("--tokens", arguments.tokens, 8, 4096),
        _within("--rounds", arguments.rounds, 1, 100),
        _within("--threads", arguments.threads, 1, cores()),
    )


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _contexts(text: str) -> tuple[int, ...]:
    parts = _parts(text)
    if not parts or not all(part.isdigit() for part in parts):
        raise BadInput(f"--contexts {text}: write numbers of tokens, such as {_CONTEXTS}")
    return tuple(sorted({_within("--contexts", int(part), 2, 2**20) for part in parts}))


def _within(name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise BadInput(f"{name}: {value} is out of range, {low:,} to {high:,}")
    return value


class _Show:
    """How far it is: a line that is written over and over on a terminal, else one a round."""

    def __init__(self) -> None:
        self.line = ProgressLine()
        self._told = -1

    def progress(self, now: Progress) -> None:
        left = "" if now.seconds_left is None else f", about {now.seconds_left:.0f} s left"
        if sys.stderr.isatty():
            where = f"round {now.round} of {now.rounds}: " if now.round else ""
            self.line.show(f"{where}{now.what}{left}", now.done, now.total)
        elif now.round != self._told:
            note(f"round {now.round} of {now.rounds}{left}" if now.round else "starting the engines")
            self._told = now.round
