"""Measure speed and memory against other engines."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from app.cli.arguments import add_model, check_outputs
from app.cli.terminal import ProgressLine, note, say, write_json, write_text
from core.bench.columns import ENGINES, columns_of
from core.bench.plan import Settings
from core.bench.report import text_of, to_dict
from core.bench.run import Progress, run
from core.config import RunConfig
from core.environment import cores
from core.errors import BadInput

_FORMATS = "native,cast:bfloat16,rtn:8"
_CONTEXTS = "128,1024,4096"
_GRID_CONTEXTS = "128,256,512,1024,2048"
_SHAPES, _BATCHES = "7B,13B", "1,2,4,8,16"


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
    parser.add_argument(
        "--caches",
        default="",
        metavar="A,B",
        help="caches, each with its first option, that the local engine is measured with beside its default, in the first of "
        "--weights: such as quantized:8",
    )
    parser.add_argument("--contexts", metavar="N,M", help=f"tokens held (default {_CONTEXTS}; with --gpu {_GRID_CONTEXTS})")
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="tokens decoded each time (default 64)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds in turns (default 5)")
    parser.add_argument("--threads", type=int, default=cores(), metavar="N", help=f"of every engine (default {cores()})")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every value, and the ratios of all engines")
    grid = parser.add_argument_group("on a GPU", "W4A16 over FP16 with models of random weights, beside the survey's Table 4")
    grid.add_argument("--gpu", action="store_true", help="fill that grid instead; --contexts and --tokens count here too")
    grid.add_argument("--shapes", default=_SHAPES, metavar="A,B", help=f"of the models (default {_SHAPES})")
    grid.add_argument("--batches", default=_BATCHES, metavar="N,M", help=f"sequences side by side (default {_BATCHES})")
    grid.add_argument("--csv", type=Path, metavar="OUT", help="write the grid beside the published one")


def call(arguments: Namespace) -> int:
    check_outputs(arguments.json, arguments.csv)
    if arguments.gpu:
        return _grid(arguments)
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


def _grid(arguments: Namespace) -> int:
    from core.bench.gpu.report import text_of, to_csv, to_dict
    from core.bench.gpu.run import GridSettings, gpu, run_grid
    from core.bench.gpu.shapes import named

    contexts = _numbers("--contexts", arguments.contexts or _GRID_CONTEXTS)
    batches, tokens = _numbers("--batches", arguments.batches), _within("--tokens", arguments.tokens, 8, 4096)
    settings = GridSettings(tuple(map(named, _parts(arguments.shapes))), batches, contexts, tokens)
    gpu()
    line = ProgressLine(plain=True)
    try:
        record = run_grid(settings, line.show)
    finally:
        line.clear()
    say(text_of(record))
    if arguments.json:
        write_json(to_dict(record), arguments.json)
    if arguments.csv:
        write_text(to_csv(record), arguments.csv)
    return 0


def settings_of(arguments: Namespace) -> Settings:
    """Raises BadInput for what cannot be measured."""
    return Settings(
        arguments.model or RunConfig().model,
        columns_of(_parts(arguments.engines), _parts(arguments.weights), _parts(arguments.caches)),
        _numbers("--contexts", arguments.contexts or _CONTEXTS),
        _within("--tokens", arguments.tokens, 8, 4096),
        _within("--rounds", arguments.rounds, 1, 100),
        _within("--threads", arguments.threads, 1, cores()),
    )


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(name: str, text: str) -> tuple[int, ...]:
    """Ascending."""
    parts = _parts(text)
    if not parts or not all(part.isdigit() for part in parts):
        raise BadInput(f"{name} {text}: write whole numbers, such as {_CONTEXTS}")
    return tuple(sorted({_within(name, int(part), 2 if name == "--contexts" else 1, 2**20) for part in parts}))


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
