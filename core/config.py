"""The frozen configuration of a run, read strictly and written back as plain JSON."""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from core.errors import BadInput
from core.technique import NoOptions, OptionValue, Technique, option, options_of
from core.techniques import CATALOGUE, DEFAULTS, find, neighbours


@dataclass(frozen=True)
class Choice:
    """The active technique of one family and its options."""

    family: str
    name: str
    options: Any = NoOptions()

    @property
    def technique(self) -> Technique:
        return CATALOGUE[self.family][self.name]

    def to_dict(self) -> dict[str, OptionValue]:
        return {"name": self.name, **dataclasses.asdict(self.options)}


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. Temperature 0 is greedy; the other filters then change nothing."""

    temperature: float = option(0.0, "0 is greedy; higher is more random", low=0.0, high=10.0)
    top_k: int = option(0, "keep the k likeliest tokens; 0 keeps all", low=0, high=1_000_000)
    top_p: float = option(1.0, "keep the likeliest tokens that sum to p", low=0.0, high=1.0)
    min_p: float = option(0.0, "drop tokens under this share of the likeliest one", low=0.0, high=1.0)
    repetition_penalty: float = option(1.0, "divide the logits of tokens already present; 1 is off", low=0.01, high=10.0)
    seed: int = option(0, "seed of the random draws", low=0, high=2**63 - 1)


@dataclass(frozen=True)
class Run:
    """Limits of a run."""

    max_new_tokens: int = option(128, "most tokens generated", low=1, high=1_048_576, unit="tokens")
    ignore_eos: bool = option(False, "go on past the end-of-sequence token")
    stop: str = option("", "text that ends the run, not shown; several are separated by |")
    prefill_chunk: int = option(2048, "prompt tokens computed between two looks at Stop", low=16, high=65_536, unit="tokens")


def _default(family: str) -> Any:
    return field(default_factory=lambda: Choice(family, DEFAULTS[family], find(family, DEFAULTS[family]).options()))


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run computes, but for the prompt.

    `model` is a folder, a `.gguf` file, `default`, or a hub id `owner/name`.
    """

    model: str = "default"
    attention: Choice = _default("attention")
    heads: Choice = _default("heads")
    cache: Choice = _default("cache")
    weights: Choice = _default("weights")
    ffn: Choice = _default("ffn")
    decoding: Choice = _default("decoding")
    engine: Choice = _default("engine")
    sampling: Sampling = Sampling()
    run: Run = Run()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; `from_dict` reads it back to an equal config."""
        choices = {family: self.choice(family).to_dict() for family in CATALOGUE}
        return {
            "model": self.model,
            **choices,
            "sampling": dataclasses.asdict(self.sampling),
            "run": dataclasses.asdict(self.run),
        }

    def choice(self, family: str) -> Choice:
        return cast(Choice, getattr(self, family))

    def set(self, assignments: Iterable[str]) -> RunConfig:
        """A copy with `family.key=value` assignments applied (a name first, whatever the order given)."""
        merged = self.to_dict()
        pairs = [_assignment(text) for text in assignments]
        for path, key, value in sorted(pairs, key=lambda pair: pair[1] != "name"):
            section = _section(merged, path, key)
            if key == "name" and path in CATALOGUE:
                merged[path] = section if section["name"] == value else {"name": value}
            else:
                section[key] = _parsed(path, section.get("name"), key, value)
        return from_dict(merged)


def from_dict(data: Mapping[str, Any]) -> RunConfig:
    """Read a config. Missing fields take their defaults; BadInput names an unknown field and its neighbours."""
    if not isinstance(data, Mapping):
        raise BadInput(f"config: expected an object with the fields {', '.join(_SECTIONS)}")
    known = {"model", *_SECTIONS}
    for key in data:
        if key not in known:
            raise BadInput(f"config: there is no field {key!r}; {neighbours(key, known)}")
    values: dict[str, Any] = {family: _choice(family, data[family]) for family in CATALOGUE if family in data}
    values |= {name: _options(kind, data[name], name) for name, kind in _PLAIN.items() if name in data}
    if "model" in data:
        values["model"] = _model(data["model"])
    return RunConfig(**values)


def read(path: Path) -> RunConfig:
    """Read a config from a JSON file; BadInput says where it is not valid."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadInput(f"{path}: not a readable JSON configuration: {error}") from None
    try:
        return from_dict(data)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None


_PLAIN: dict[str, type] = {"sampling": Sampling, "run": Run}
_SECTIONS = (*CATALOGUE, *_PLAIN)


def option_class(section: str, name: str | None = None) -> type:
    """The options dataclass behind a config section, for technique `name` where the section is a family."""
    return _PLAIN[section] if section in _PLAIN else find(section, name or DEFAULTS[section]).options


def checked(where: str, key: str, value: Any, kind: type) -> OptionValue:
    """`value` if it fits option `key` of `kind` in type, range and choices; else BadInput."""
    known = {known.name: known for known in options_of(kind)}
    if key not in known:
        raise BadInput(f"{where}.{key}: there is no such option; {neighbours(key, known)}")
    expected = known[key]
    if expected.type == "float" and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value).__name__ != expected.type:
        raise BadInput(f"{where}.{key}: {value!r} is not of type {expected.type}")
    if expected.choices and value not in expected.choices:
        raise BadInput(f"{where}.{key}: {value!r} is not one of {', '.join(map(str, expected.choices))}")
    if isinstance(value, int | float) and not _within(value, expected.low, expected.high):
        raise BadInput(f"{where}.{key}: {value} is out of range, {expected.low} to {expected.high}")
    return cast(OptionValue, value)


def _within(value: float, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def _choice(family: str, data: Any) -> Choice:
    if not isinstance(data, Mapping):
        raise BadInput(f"{family}: expected an object such as {{'name': '{DEFAULTS[family]}'}}, not {data!r}")
    name = data.get("name", DEFAULTS[family])
    if not isinstance(name, str):
        raise BadInput(f"{family}.name: expected the name of a technique, not {name!r}")
    kind = find(family, name).options
    return Choice(family, name, _options(kind, {k: v for k, v in data.items() if k != "name"}, family))


def _options(kind: type, data: Any, where: str) -> Any:
    if not isinstance(data, Mapping):
        raise BadInput(f"{where}: expected an object, not {data!r}")
    return kind(**{key: checked(where, key, value, kind) for key, value in data.items()})


def _model(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise BadInput(f"model: expected a folder, a .gguf file or a name, not {value!r}")
    return value


def _assignment(text: str) -> tuple[str, str, str]:
    path, equals, value = text.partition("=")
    section, dot, key = path.partition(".")
    if not equals or (not dot and section != "model"):
        raise BadInput(f"--set {text}: write family.key=value, such as weights.bits=4")
    return section, key, value


def _section(merged: dict[str, Any], section: str, key: str) -> dict[str, Any]:
    if section == "model":
        raise BadInput("--set model: choose the model with --model")
    if section not in merged:
        raise BadInput(f"--set {section}.{key}: there is no section {section!r}; {neighbours(section, _SECTIONS)}")
    return cast(dict[str, Any], merged[section])


def _parsed(section: str, name: str | None, key: str, text: str) -> OptionValue:
    """Text of an assignment as the option's type."""
    known = {known.name: known for known in options_of(option_class(section, name))}
    if key not in known:
        raise BadInput(f"--set {section}.{key}: {name or section} has no such option; {neighbours(key, known)}")
    readers: Mapping[str, Any] = types.MappingProxyType({"int": int, "float": float, "str": str, "bool": _BOOLEANS.__getitem__})
    try:
        return cast(OptionValue, readers[known[key].type](text))
    except (ValueError, KeyError):
        raise BadInput(f"--set {section}.{key}: {text!r} is not of type {known[key].type}") from None


_BOOLEANS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
