"""Arguments that several commands share, and the request they make."""

from __future__ import annotations

import dataclasses
import os
import sys
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from pathlib import Path

from core import config as configs
from core.config import RunConfig
from core.errors import BadInput, RunFailed
from core.models.find import describe


def add_prompt(parser: ArgumentParser) -> None:
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--prompt", metavar="TEXT")
    prompt.add_argument("--prompt-file", type=Path, metavar="FILE", help="read the prompt from a file; - is standard input")
    parser.add_argument(
        "--chat",
        action=BooleanOptionalAction,
        help="wrap the prompt as a turn of the model's chat template, or send it as it is; the default is to wrap it where "
        "the model has a template",
    )


def add_model(parser: ArgumentParser) -> None:
    parser.add_argument("--model", metavar="PATH|NAME", help="a folder, a .gguf file, a hub id owner/name, or default")


def add_assignments(parser: ArgumentParser) -> None:
    """What overrides any part of a configuration."""
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="family.key=value",
        help="such as weights.name=rtn weights.bits=4",
    )


def add_settings(parser: ArgumentParser) -> None:
    """What overrides a configuration, the limits of a run by names of their own."""
    add_assignments(parser)
    parser.add_argument("--max-new-tokens", metavar="N")
    parser.add_argument("--seed", metavar="N")
    parser.add_argument("--ignore-eos", action="store_true", help="go on past the end-of-sequence token")


def add_config(parser: ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="start from this JSON configuration")


def configured(arguments: Namespace, base: Path | None) -> RunConfig:
    """The configuration in file `base`, or the default one, with what the arguments set. Raises BadInput."""
    config = RunConfig() if base is None else configs.read(base)
    given = vars(arguments)  # commands that generate nothing have no limits of a run
    plain = {"run.max_new_tokens": given.get("max_new_tokens"), "sampling.seed": given.get("seed")}
    assignments = [f"{key}={value}" for key, value in plain.items() if value is not None]
    if given.get("ignore_eos"):
        assignments.append("run.ignore_eos=true")
    config = config.set([*arguments.set, *assignments])
    return config if arguments.model is None else dataclasses.replace(config, model=arguments.model)


def prompt_of(arguments: Namespace) -> str:
    """The prompt's text. Raises BadInput when it cannot be read, or is not UTF-8."""
    path: Path | None = arguments.prompt_file
    try:
        if path is None:
            return os.fsencode(arguments.prompt).decode()
        return sys.stdin.buffer.read().decode() if path == Path("-") else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        where = "--prompt" if path is None else path
        raise BadInput(f"{where}: the prompt cannot be read: {getattr(error, 'strerror', None) or error}") from None


def chat_of(arguments: Namespace, config: RunConfig) -> bool:
    """What --chat says, else whether the model has a template. Raises BadInput when there is no such model."""
    return describe(config.model).chat_template is not None if arguments.chat is None else bool(arguments.chat)


def check_outputs(*paths: Path | None) -> None:
    """Refuse a file that cannot be written before any work is done for it."""
    for path in paths:
        if path is None:
            continue
        folder = path.parent
        if not folder.is_dir():
            raise RunFailed(f"{path}: cannot be written: there is no folder {folder}")
        if path.is_dir():
            raise RunFailed(f"{path}: cannot be written: it is a folder")
        if not os.access(path if path.exists() else folder, os.W_OK):
            raise RunFailed(f"{path}: cannot be written: permission denied")
