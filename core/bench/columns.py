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


def columns_of(engines: Sequence[str], weights: Sequence[str], caches: Sequence[str] = ()) -> tuple[Column, ...]:
    """The columns in the order asked for: under `local` the formats of weights, then the first of them with each cache.

    Raises BadInput.
    """
    for name in engines:
        if name not in ENGINES:
            raise BadInput(f"--engines: there is no engine {name!r}; the engines are {', '.join(ENGINES)}")
    ours = _ours(weights, caches)
    found = [column for name in engines for column in (ours if name == "local" else _PEERS[name])]
    if not found:
        raise BadInput("--engines, --weights: name at least one")
    if len(set(found)) < len(found):
        raise BadInput("--engines, --weights, --caches: name each one once")
    return tuple(found)


def _ours(weights: Sequence[str], caches: Sequence[str]) -> tuple[Column, ...]:
    formats = [Column(text, "local", _settings("weights", text)) for text in weights]
    if caches and not formats:
        raise BadInput("--caches: name at least one of --weights, for the cache to stand beside")
    cached = [
        Column(f"{formats[0].label}, {text}", "local", (*formats[0].settings, *_settings("cache", text))) for text in caches
    ]
    return (*formats, *cached)


def _settings(family: str, text: str) -> tuple[str, ...]:
    """Of a technique by its name, or with its first option, as in `rtn:8`."""
    argument, (name, colon, value) = f"--{family.removesuffix('s')}s", text.partition(":")
    technique = CATALOGUE[family].get(name)
    if technique is None:
        known = ", ".join(CATALOGUE[family])
        raise BadInput(f"{argument}: there is no technique {name!r}; the techniques are {known}")
    settings = [f"{family}.name={name}"]
    if colon:
        options = options_of(technique.options)
        if not options:
            raise BadInput(f"{argument} {text}: {name} has nothing to set")
        settings.append(f"{family}.{options[0].name}={value}")
    RunConfig().set(settings)
    return tuple(settings)
