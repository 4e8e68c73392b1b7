"""List, fetch and describe models."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from app.cli.arguments import add_config, add_settings, configured
from app.cli.parser import Parser
from app.cli.terminal import ProgressLine, say
from core.errors import BadInput
from core.models.find import available, describe, resolve
from core.models.info import ModelInfo
from core.models.memory import estimate
from widgets.quantity import spoken


def add_arguments(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="list|fetch|info", required=True, parser_class=Parser)
    actions.add_parser("list", help="models in the cache folder").set_defaults(do=_list)
    fetch = actions.add_parser("fetch", help="fetch a model: default, or a hub id owner/name")
    fetch.add_argument("name", metavar="NAME")
    fetch.set_defaults(do=_fetch)
    info = actions.add_parser("info", help="architecture, size, context, chat template, memory needed")
    info.add_argument("model", metavar="PATH|NAME")
    add_config(info)
    add_settings(info)
    info.set_defaults(do=_info)


def call(arguments: Namespace) -> int:
    arguments.do(arguments)
    return 0


def _list(_: Namespace) -> None:
    found = available()
    if not found:
        say("no models yet; inference-playground models fetch default")
    for model in found:
        try:
            say(f"{model.name}  {_size(describe(model.name))}  {model.path}")
        except BadInput as error:
            say(f"{model.name}  cannot be used: {error}")


def _fetch(arguments: Namespace) -> None:
    line = ProgressLine(plain=True)
    try:
        path = resolve(arguments.name, line.show)
    finally:
        line.clear()
    say(str(path))


def _info(arguments: Namespace) -> None:
    info = describe(arguments.model)
    for name, value in (*_facts(info), *_needs(info, arguments)):
        say(f"{name:22}{value}")


def _size(info: ModelInfo) -> str:
    return f"{info.architecture}, {info.parameters / 1e6:,.0f} M parameters, {spoken(info.weight_bytes, 'B')}"


def _facts(info: ModelInfo) -> list[tuple[str, str]]:
    experts = [("experts", f"{info.experts}, {info.experts_used} used for each token")] if info.experts else []
    window = [("sliding window", f"{info.sliding_window} tokens")] if info.sliding_window else []
    heads = f"{info.query_heads} query heads, {info.kv_heads} KV heads of {info.head_size}"
    return [
        ("name", info.name),
        ("path", info.path),
        ("format", info.format),
        ("architecture", f"{info.architecture} (engine {info.engine})"),
        ("parameters", f"{info.parameters:,}"),
        ("shape", f"{info.layers} layers, width {info.width}, {heads}, FFN {info.ffn_width}"),
        *experts,
        *window,
        ("vocabulary", f"{info.vocabulary:,}{', head tied to the embedding' if info.tied_head else ''}"),
        ("context", f"{info.context:,} tokens"),
        *((f"bytes as {kind}", spoken(size, "B")) for kind, size in info.tensor_bytes.items()),
        ("chat template", "yes" if info.chat_template else "no"),
    ]


def _needs(info: ModelInfo, arguments: Namespace) -> list[tuple[str, str]]:
    """Memory for the configuration and a prompt that fills the rest of the context."""
    config = configured(arguments, arguments.config)
    need = estimate(info, config, max(0, info.context - config.run.max_new_tokens))
    parts = ", ".join(f"{name} {spoken(size, 'B')}" for name, size in need.parts.items())
    return [
        ("memory needed", f"{spoken(need.total, 'B')} with the context full (modelled): {parts}"),
        ("memory free", f"{spoken(need.available, 'B')} (measured)"),
    ]
