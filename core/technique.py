"""What a technique is, and how its options are declared so that forms and the command line can read them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, cast

OptionValue = bool | int | float | str


@dataclass(frozen=True)
class NoOptions:
    """For techniques that have nothing to set."""


@dataclass(frozen=True)
class Exactness:
    """How a technique's output relates to plain greedy decoding of the unmodified model.

    kind: `lossless` (same tokens; same distribution when sampling), `exact_at` (equal at the setting named in
    `setting`) or `approximate` (its loss is measured).
    """

    kind: Literal["lossless", "exact_at", "approximate"]
    setting: str = ""

    def __str__(self) -> str:
        return f"exact at {self.setting}" if self.kind == "exact_at" else self.kind


LOSSLESS = Exactness("lossless")
APPROXIMATE = Exactness("approximate")


@dataclass(frozen=True)
class Technique:
    """One row of a family's table.

    implementation: `module:attribute`, imported only by the engine, so that listing techniques needs no torch.
    """

    family: str
    name: str
    summary: str
    exactness: Exactness
    source: str
    implementation: str
    options: type = NoOptions

    def load(self) -> Any:
        """Import and return the implementation."""
        module, attribute = self.implementation.split(":")
        return getattr(import_module(module), attribute)


@dataclass(frozen=True)
class Option:
    """One setting of a technique as forms, the command line and `techniques --json` see it."""

    name: str
    type: str
    default: OptionValue
    summary: str
    low: float | None = None
    high: float | None = None
    choices: tuple[OptionValue, ...] = ()
    unit: str = ""


def option(
    default: OptionValue,
    summary: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[OptionValue, ...] = (),
    unit: str = "",
) -> Any:
    """A dataclass field that also carries its range, choices, unit and one-line summary."""
    metadata = {"summary": summary, "low": low, "high": high, "choices": choices, "unit": unit}
    return dataclasses.field(default=default, metadata=metadata)


def layers_option() -> Any:
    """The `layers` setting shared by attention, heads, weights and ffn techniques."""
    return option("all", "which layers: all, 0-9, 3,5,7, last:8, every:2")


def options_of(kind: type) -> tuple[Option, ...]:
    """The declared options of an options dataclass, in order."""
    return tuple(
        Option(
            name=field.name,
            type=getattr(field.type, "__name__", str(field.type)),
            default=cast(OptionValue, field.default),
            **field.metadata,
        )
        for field in dataclasses.fields(kind)
    )
