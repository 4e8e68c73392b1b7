"""Train what a technique must learn from a model before it can be used with it, or what makes it better with it."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli.arguments import add_model, check_outputs
from app.cli.outcome import interrupted
from app.cli.terminal import ProgressLine, say
from core.config import RunConfig
from core.errors import BadInput
from core.heads.choice import technique_of
from core.models.adapters import adapter_name, trained_folder
from core.models.find import describe, resolve

if TYPE_CHECKING:
    from core.distill.work import Progress

_MODULES = {"linear_learned": "core.distill.feature_maps", "kv_sharing": "core.distill.shared_heads"}
# What each takes, with the least and the most that it may be.
_RANGES = {
    "linear_learned": {
        "steps": (1, 100_000), "features": (2, 4096), "window": (0, 65_536), "sinks": (0, 4096), "sequences": (2, 256),
    },
    "kv_sharing": {"steps": (1, 100_000), "kv_heads": (1, 1024), "rank": (1, 1024)},
}  # fmt: skip


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "technique", choices=tuple(_MODULES), help="feature maps of linear attention, or fewer KV heads with heads.repair"
    )
    add_model(parser)
    parser.add_argument("--steps", type=int, metavar="N", help="linear_learned: in each layer (default 500); kv_sharing: 400")
    maps = parser.add_argument_group("linear_learned")
    maps.add_argument("--features", type=int, metavar="N", help="of each head, an even number (default 128)")
    maps.add_argument("--window", type=int, metavar="N", help="latest keys that stay exact (default 64)")
    maps.add_argument("--sinks", type=int, metavar="N", help="first keys that stay exact (default 4)")
    maps.add_argument("--sequences", type=int, metavar="N", help="of 1,024 tokens, one to check by (default 8)")
    heads = parser.add_argument_group("kv_sharing")
    heads.add_argument("--kv-heads", type=int, metavar="N", help="of each layer, fewer than the model has (default 1)")
    heads.add_argument("--rank", type=int, metavar="N", help="of what W_q and W_o are changed by (default 12)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: where runs with this model look for it")


def call(arguments: Namespace) -> int:
    """Nothing is written when it is stopped."""
    technique = arguments.technique
    settings = settings_of(arguments)
    from core.distill import adapter_file

    model, line = arguments.model or RunConfig().model, ProgressLine(plain=True)
    resolve(model, line.show)
    out = _output(arguments.out, technique if technique != "kv_sharing" else technique_of(settings.kv_heads), model)

    def tell(now: Progress) -> None:
        if interrupted():
            raise KeyboardInterrupt
        left = "" if now.seconds_left is None or not sys.stderr.isatty() else f", about {now.seconds_left:.0f} s left"
        line.show(f"{now.what}{left}", now.done, now.total)

    try:
        made = import_module(_MODULES[technique]).distill(model, settings, tell)
    finally:
        line.clear()
    adapter_file.write(made.tensors, {"command": f"distill {technique} {_spelt(technique, settings)}", **made.log}, out)
    say(str(out))
    return 0


def settings_of(arguments: Namespace) -> Any:
    """The technique's Settings; BadInput for what cannot be trained, or is not of this technique."""
    ranges = _RANGES[arguments.technique]
    names = {name for those in _RANGES.values() for name in those}
    given = {name: value for name in sorted(names) if (value := getattr(arguments, name)) is not None}
    for name, value in given.items():
        if name not in ranges:
            raise BadInput(f"{_flag(name)} says nothing to {arguments.technique}")
        low, high = ranges[name]
        if not low <= value <= high:
            raise BadInput(f"{_flag(name)}: {value} is out of range, {low:,} to {high:,}")
    if given.get("features", 0) % 2:
        raise BadInput(f"--features: {given['features']} is odd, and features come in pairs")
    return import_module(_MODULES[arguments.technique]).Settings(**given)


def _spelt(technique: str, settings: Any) -> str:
    return " ".join(f"{_flag(name)} {getattr(settings, name)}" for name in _RANGES[technique])


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _output(chosen: Path | None, technique: str, model: str) -> Path:
    if chosen is None:
        trained_folder().mkdir(parents=True, exist_ok=True)
        return trained_folder() / adapter_name(technique, describe(model))
    check_outputs(chosen)
    return chosen
