"""Train what a technique must learn from a model before it can be used with it."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.arguments import add_model, check_outputs
from app.cli.outcome import interrupted
from app.cli.terminal import ProgressLine, say
from core.config import RunConfig
from core.errors import BadInput
from core.models.adapters import adapter_name, trained_folder
from core.models.find import describe, resolve

if TYPE_CHECKING:
    from core.distill.loop import Progress, Settings

_RANGES = {"steps": (1, 100_000), "features": (2, 4096), "window": (0, 65_536), "sinks": (0, 4096), "sequences": (2, 256)}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("technique", choices=("linear_learned",), help="feature maps of linear attention")
    add_model(parser)
    parser.add_argument("--steps", type=int, default=500, metavar="N", help="of training in each layer (default 500)")
    parser.add_argument("--features", type=int, default=128, metavar="N", help="of each head, an even number (default 128)")
    parser.add_argument("--window", type=int, default=64, metavar="N", help="latest keys that stay exact (default 64)")
    parser.add_argument("--sinks", type=int, default=4, metavar="N", help="first keys that stay exact (default 4)")
    parser.add_argument("--sequences", type=int, default=8, metavar="N", help="of 1,024 tokens, one to check by (default 8)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: where runs with this model look for it")


def call(arguments: Namespace) -> int:
    """Nothing is written when it is stopped."""
    settings = settings_of(arguments)
    from core.distill import adapter_file
    from core.distill.loop import distill

    model, line = arguments.model or RunConfig().model, ProgressLine(plain=True)
    resolve(model, line.show)
    out = _output(arguments.out, arguments.technique, model)

    def tell(now: Progress) -> None:
        if interrupted():
            raise KeyboardInterrupt
        left = "" if now.seconds_left is None or not sys.stderr.isatty() else f", about {now.seconds_left:.0f} s left"
        line.show(f"{now.what}{left}", now.done, now.total)

    try:
        made = distill(model, settings, tell)
    finally:
        line.clear()
    command = f"distill {arguments.technique} {_spelt(settings)}"
    adapter_file.write(made.tensors, {"command": command, **made.log}, out)
    say(str(out))
    return 0


def settings_of(arguments: Namespace) -> Settings:
    """Raises BadInput for what cannot be trained."""
    from core.distill.loop import Settings

    for name, (low, high) in _RANGES.items():
        if not low <= getattr(arguments, name) <= high:
            raise BadInput(f"--{name}: {getattr(arguments, name)} is out of range, {low:,} to {high:,}")
    if arguments.features % 2:
        raise BadInput(f"--features: {arguments.features} is odd, and features come in pairs")
    return Settings(**{name: getattr(arguments, name) for name in _RANGES})


def _spelt(settings: Settings) -> str:
    return " ".join(f"--{name} {getattr(settings, name)}" for name in _RANGES)


def _output(chosen: Path | None, technique: str, model: str) -> Path:
    if chosen is None:
        trained_folder().mkdir(parents=True, exist_ok=True)
        return trained_folder() / adapter_name(technique, describe(model))
    check_outputs(chosen)
    return chosen
