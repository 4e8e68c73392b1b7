"""Renders a model's own chat template, in a sandbox, as transformers renders it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from core.errors import BadInput

Message = Mapping[str, Any]


def render(template: str, messages: Sequence[Message], special_tokens: Mapping[str, str]) -> str:
    """`messages` (role, content) as the prompt text that asks the model for its next turn.

    special_tokens: `bos_token`, `eos_token`, … to their text. Raises BadInput when the template is broken or refuses.
    """
    try:
        return _compiled(template).render(messages=list(messages), add_generation_prompt=True, **special_tokens)
    except jinja2.TemplateError as error:
        raise BadInput(f"the model's chat template refuses: {error.message or error}") from None
    except Exception as error:  # A template is code from the model's file: whatever it does wrong is its fault.
        raise BadInput(f"the model's chat template fails: {type(error).__name__}: {error}") from None


@lru_cache(maxsize=8)
def _compiled(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda format_: datetime.now().strftime(format_)
    return environment.from_string(template)


class _Generation(Extension):
    """`{% generation %}` marks what the assistant says, for training; rendering only passes it through."""

    tags = {"generation"}  # noqa: RUF012 (declared so by jinja2)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """Unlike jinja's own filter, without escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)
