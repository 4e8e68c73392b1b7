"""List every technique."""

from __future__ import annotations

import dataclasses
import json
from argparse import ArgumentParser, Namespace
from typing import Any

from app.cli.terminal import say
from core.technique import Option, Technique, options_of
from core.techniques import CATALOGUE, DEFAULTS


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON, on standard output")


def call(arguments: Namespace) -> int:
    rows = [technique for family in CATALOGUE.values() for technique in family.values()]
    if arguments.json:
        say(json.dumps([_plain(technique) for technique in rows], indent=2, ensure_ascii=False))
    else:
        say("\n\n".join(_shown(family) for family in CATALOGUE))
    return 0


def _plain(technique: Technique) -> dict[str, Any]:
    return {
        "family": technique.family,
        "name": technique.name,
        "summary": technique.summary,
        "options": [dataclasses.asdict(option) for option in options_of(technique.options)],
        "exactness": str(technique.exactness),
        "source": technique.source,
    }


def _shown(family: str) -> str:
    rows = [line for technique in CATALOGUE[family].values() for line in _lines(technique)]
    return "\n".join([family, *rows])


def _lines(technique: Technique) -> list[str]:
    mark = "*" if DEFAULTS[technique.family] == technique.name else " "
    head = f"{mark} {technique.name:16} {technique.summary} [{technique.exactness}] {technique.source}"
    return [head, *(f"      {_option(option)}" for option in options_of(technique.options))]


def _option(option: Option) -> str:
    span = "" if option.low is None else f", {option.low:,} to {option.high:,}"
    choices = f", one of {', '.join(map(str, option.choices))}" if option.choices else ""
    unit = f" {option.unit}" if option.unit else ""
    return f"{option.name} = {option.default} ({option.type}{span}{unit}{choices}): {option.summary}"
