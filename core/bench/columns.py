"""What is compared: one column for each engine and format of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.config import RunConfig
from core.errors import BadInput
from core.technique import options_of
from core.techniques import CATALOGUE

ENGINES = {
    "local": "core.bench.local:Local",
    "transformers": "core.bench.transformers:Transformers",
    "llama.cpp": "core.bench.llama_cpp:LlamaCpp",
}


@dataclass(frozen=True)
class Column:
    """One engine as it is set. engine: a name of ENGINES."""

    label: str
    engine: str
    settings: tuple[str, ...] = ()

    @property
    def ours(self) -> bool:
        return self.engine == "local"


_PEERS = {
    "transformers": (Column("transformers", "transformers"),),
    # Flash attention, its default, reads prompts faster and decodes more slowly than it does without.
    "llama.cpp": (Column("llama.cpp", "llama.cpp"), Column("llama.cpp, flash off", "llama.cpp", ("flash_attention=off",))),
}


def columns_of(engines: Sequence[str], weights: Sequence[str]) -> tuple[Column, ...]:
    """The columns in the order asked for, the formats of weights under `local`. Raises BadInput."""
    for name in engines:
        if name not in ENGINES:
            raise BadInput(f"--engines: there is no engine {name!r}; the engines are {', '.join(ENGINES)}")
    formats = tuple(_of_weights(text) for text in weights)
    found = [column for name in engines for column in (formats if name == "local" else _PEERS[name])]
    if not found:
        raise BadInput("--engines, --weights: name at least one")
    if len(set(found)) < len(found):
        raise BadInput("--engines, --weights: name each one once")
    return tuple(found)


def _of_weights(text: str) -> Column:
    """`native`, or a technique with its first option, as in `rtn:8`."""
    name, colon, value = text.partition(":")
    technique = CATALOGUE["weights"].get(name)
    if technique is None:
        raise BadInput(f"--weights: there is no technique {name!r}; the techniques are {', '.join(CATALOGUE['weights'])}")
    settings = [f"weights.name={name}"]
    if colon:
        options = options_of(technique.options)
        if not options:
            raise BadInput(f"--weights {text}: {name} has nothing to set")
        settings.append(f"weights.{options[0].name}={value}")
    RunConfig().set(settings)
    return Column(text, "local", tuple(settings))
