"""Which techniques can work together on which model, said before a run. Free of torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from core.config import Choice, RunConfig
from core.errors import BadInput
from core.models.info import ModelInfo
from core.refusals import computing, context
from core.refusals.refusal import Refusal
from core.techniques import CATALOGUE


def refusals(config: RunConfig, info: ModelInfo | None) -> list[Refusal]:
    """Everything that stands against running `config`; rules that need a model are left out without `info`."""
    found = [refusal for rule in (*context.ANY_MODEL, *computing.ANY_MODEL) for refusal in rule(config)]
    if info is not None:
        found += [refusal for rule in (*context.ONE_MODEL, *computing.ONE_MODEL) for refusal in rule(config, info)]
    return found


def refuse(config: RunConfig, info: ModelInfo | None) -> None:
    """Raise BadInput with the first refusal, if there is one."""
    for refusal in refusals(config, info):
        raise BadInput(f"{refusal.family}.name={refusal.name}: {refusal.reason}")


def refused_techniques(config: RunConfig, info: ModelInfo | None) -> dict[tuple[str, str], str]:
    """For every technique that cannot be chosen with the rest of `config` as it is: why.

    Options are the config's own where the technique is chosen, else the first that fit the model (see `fitted`).
    """
    return {
        (family, name): reason
        for family, rows in CATALOGUE.items()
        for name, reason in _refused_in(config, family, tuple(rows), info).items()
    }


def _refused_in(config: RunConfig, family: str, names: tuple[str, ...], info: ModelInfo | None) -> dict[str, str]:
    """The names of one family that bring a refusal which another name of the family would not."""
    tried = {
        name: refusals(config if config.choice(family).name == name else with_technique(config, family, name, info), info)
        for name in names
    }
    always = set.intersection(*map(set, tried.values()))
    own = {name: [refusal for refusal in found if refusal not in always] for name, found in tried.items()}
    return {name: min(found, key=lambda refusal: refusal.family != family).reason for name, found in own.items() if found}


def with_technique(config: RunConfig, family: str, name: str, info: ModelInfo | None) -> RunConfig:
    """`config` with another technique in one family, its options fitted to the model."""
    choice: Any = fitted(Choice(family, name, CATALOGUE[family][name].options()), info)
    return replace(config, **{family: choice})


def fitted(choice: Choice, info: ModelInfo | None) -> Choice:
    """`choice` with default options that the model's shape rules out brought to the nearest possible ones."""
    options = choice.options
    if info is None:
        return choice
    if choice.name == "moefy" and info.ffn_width % options.experts:
        experts = next(n for n in range(options.experts, 0, -1) if info.ffn_width % n == 0)
        options = replace(options, experts=experts, top_k=min(options.top_k, experts))
    if choice.name == "latent_kv" and options.rank > 2 * info.kv_heads * info.head_size:
        options = replace(options, rank=info.kv_heads * info.head_size)
    if choice.name == "experts" and info.experts:
        options = replace(options, top_k=min(options.top_k, info.experts))
    return replace(choice, options=options)
