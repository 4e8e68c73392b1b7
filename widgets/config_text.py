"""Configurations in a few words: one technique with its options, and what one configuration has that another has not."""

from __future__ import annotations

import dataclasses
from typing import Any

from core.config import Choice, RunConfig
from core.technique import options_of
from core.techniques import CATALOGUE

SECTIONS = (*CATALOGUE, "sampling", "run")


def options_text(options: Any, only_changed: bool = False) -> str:
    """`window 256 tokens · layers 0-9`; `layers all` goes without saying. only_changed: just what is not the default."""
    parts = []
    for option in options_of(type(options)):
        value = getattr(options, option.name)
        if (option.name == "layers" and value == "all") or (only_changed and value == option.default):
            continue
        parts.append(f"{option.name.replace('_', ' ')} {_shown(value)}")
    return " · ".join(parts)


def _shown(value: Any) -> Any:
    """`on` and `off`; no needless zeros."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return int(value) if isinstance(value, float) and value.is_integer() else value


def section_text(config: RunConfig, section: str) -> str:
    """What `section` (a family, `sampling` or `run`) is set to."""
    chosen = getattr(config, section)
    if not isinstance(chosen, Choice):
        return options_text(chosen, only_changed=True) or "default"
    options = options_text(chosen.options)
    return f"{chosen.name} ({options})" if options else chosen.name


def differing(config: RunConfig, reference: RunConfig) -> tuple[str, ...]:
    """The sections in which `config` is not `reference`."""
    return tuple(name for name in SECTIONS if getattr(config, name) != getattr(reference, name))


def headline(config: RunConfig, reference: RunConfig | None = None) -> str:
    """What sets `config` apart from `reference`, or from a plain run when there is none."""
    against = reference if reference is not None else RunConfig(model=config.model)
    parts = [_difference(config, against, name) for name in differing(config, against)]
    if config.model != against.model:
        parts.insert(0, f"model {config.model}")
    return " · ".join(parts) or ("same as A" if reference is not None else "as trained")


def _difference(config: RunConfig, against: RunConfig, section: str) -> str:
    chosen, other = getattr(config, section), getattr(against, section)
    if isinstance(chosen, Choice) and chosen.name != other.name:
        return f"{section} {section_text(config, section)}"
    mine, theirs = (dataclasses.asdict(each.options if isinstance(each, Choice) else each) for each in (chosen, other))
    changed = [f"{name.replace('_', ' ')} {_shown(value)}" for name, value in mine.items() if theirs.get(name) != value]
    return f"{section} {', '.join(changed)}"
