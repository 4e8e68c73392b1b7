"""The commands; each is imported when it is asked for, and every complaint is one line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from app.cli import window
from core.errors import BadInput

# A command is the module of its name in this package, with `add_arguments(parser)` and `call(arguments) -> exit code`.
_COMMANDS = {
    "run": "run a prompt; the text goes to standard output as it comes",
    "compare": "run configurations in turns on one prompt, after a warm-up of each, and say how they differ",
    "quality": "measure perplexity and divergence from the unmodified model on a text, or which hidden facts are found",
    "bench": "measure speed and memory of this program, transformers and llama.cpp in turns on one model",
    "distill": "train what a technique learns from a model: feature maps of linear attention, or fewer KV heads",
    "techniques": "list every technique with its options, exactness and source",
    "models": "list the models on this machine, fetch one, or say what is in one",
    "export": "write a chart of a recorded run as a picture, its numbers, or a page; the file's ending decides which",
    "screenshot": "write a picture of the window",
}


class Parser(argparse.ArgumentParser):
    """Raises BadInput in place of printing its usage."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message} (see {self.prog} --help)")


class _Command(Parser):
    """Learns its arguments when it is about to read them."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore[override]
        command = import_module(f"app.cli.{self.prog.split()[-1]}")
        command.add_arguments(self)
        self.set_defaults(call=command.call)
        return super().parse_known_args(args, namespace)


class _Version(argparse.Action):
    """Looks the version up when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        parser.exit(0, f"{parser.prog} {version('inference-playground')}\n")


def make_parser() -> Parser:
    """`parse_args` gives a namespace whose `call` takes it and returns the exit code."""
    description = "A laboratory for efficient LLM inference. With no command: the window."
    parser = Parser("inference-playground", description=description)
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and end")
    window.add_arguments(parser)
    parser.set_defaults(call=window.call)
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=_Command)
    for name, summary in _COMMANDS.items():
        commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    return parser
