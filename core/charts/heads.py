"""Which query heads share a KV head, from one each (MHA) to one for all (MQA), and what a token takes in the cache for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from core.charts.chart import Chart, Heatmap, Series
from core.charts.labelled import Labelled, counted
from core.config import Choice, RunConfig
from core.export.numbers import shown
from core.heads.table import KvSharingOptions, LatentKvOptions
from core.models.info import ModelInfo
from core.models.numbers import kv_number_bytes, kv_numbers

_EMPTY = "Choose a model: here stands which of its query heads share a KV head, and what that takes in the cache."


@dataclass(frozen=True)
class Variant:
    """A way to have KV heads. kv_heads: how many, 0 for a latent. nbytes: of one token over all layers, each kept as it is."""

    label: str
    kv_heads: int
    nbytes: int
    chosen: bool


def heads_groups(traces: Labelled) -> Chart:
    """The KV head of every query head in each variant, with the one that the first trace ran with marked."""
    return groups_of(*_started(traces))


def heads_bytes(traces: Labelled) -> Chart:
    """What a token takes in the cache in each variant, with the one that the first trace ran with marked."""
    return bytes_of(*_started(traces))


def groups_of(config: RunConfig | None, info: ModelInfo | None) -> Chart:
    """As `heads_groups`, of a configuration before it runs."""
    found = list(variants(config, info)) if config is not None and info is not None else []
    heatmap = None
    if info is not None and found:
        H = info.query_heads
        shared = [H // (variant.kv_heads or info.kv_heads) for variant in found]
        rows = [np.arange(H) // count * count for count in shared]
        labels, heads = tuple(map(_marked, found)), tuple(map(str, range(H)))
        heatmap = Heatmap(np.array(rows, float), labels, heads, 0.0, float(max(1, H - 1)), "first query head that reads it")
    return Chart(
        name="heads_groups",
        title="Query heads and their KV heads",
        badge="derived",
        definition="Query heads (columns) of one colour read the same KV head. A latent becomes the trained KV heads when it "
        "is looked at. ▸ is what the configuration has.",
        x_label="query head",
        y_label="KV heads",
        heatmap=heatmap,
        notes=_notes(config),
        empty=_EMPTY,
    )


def bytes_of(config: RunConfig | None, info: ModelInfo | None) -> Chart:
    """As `heads_bytes`, of a configuration before it runs."""
    found = list(variants(config, info)) if config is not None and info is not None else []
    sizes = np.array([variant.nbytes for variant in found], float)
    tokens = info.context if info is not None else 0
    return Chart(
        name="heads_bytes",
        title="KV cache of a token",
        badge="derived",
        definition="Bytes of the keys and values of one token in all layers, or of the latents kept in their place, in a cache "
        "that keeps every token as it is. ▸ is what the configuration has.",
        y_label="a token (B)",
        series=(Series("a token", np.arange(len(found)), sizes, "bar", 0, "kv"),) if found else (),
        categories=tuple(map(_marked, found)),
        notes=(*_notes(config), *(f"{v.label}: {shown(v.nbytes * tokens, 'B')} at {counted(tokens, 'token')}" for v in found)),
        empty=_EMPTY,
    )


def variants(config: RunConfig, info: ModelInfo) -> Iterator[Variant]:
    """Every number of KV heads that the model can share, most first, and a latent: the chosen one or half the trained bytes."""
    heads, H, own = config.heads, info.query_heads, info.kv_heads
    chosen = {"as_trained": own, "kv_sharing": getattr(heads.options, "kv_heads", own), "latent_kv": 0}[heads.name]
    for count in (n for n in range(H, 0, -1) if H % n == 0 and (n % own == 0 or own % n == 0)):
        choice = Choice("heads", "kv_sharing", KvSharingOptions(count))
        kind = "MHA" if count == H else "MQA" if count == 1 else "GQA"
        label = f"{kind}, {counted(count, 'KV head')}{', as trained' if count == own else ''}"
        yield Variant(label, count, _token_bytes(config, choice, info, count == chosen), count == chosen)
    rank = heads.options.rank if heads.name == "latent_kv" else own * info.head_size
    choice = Choice("heads", "latent_kv", LatentKvOptions(rank))
    yield Variant(f"latent of {rank}", 0, _token_bytes(config, choice, info, chosen == 0), chosen == 0)


def _token_bytes(config: RunConfig, choice: Choice, info: ModelInfo, chosen: bool) -> int:
    """In the layers that the configuration chose, if it is its own variant, else in all."""
    heads = config.heads if chosen else choice
    return sum(kv_numbers(info, replace(config, heads=heads))) * kv_number_bytes(info, config)


def _marked(variant: Variant) -> str:
    return f"{'▸ ' if variant.chosen else ''}{variant.label}"


def _notes(config: RunConfig | None) -> tuple[str, ...]:
    layers = getattr(config.heads.options, "layers", "all") if config is not None else "all"
    return () if layers == "all" or config is None else (f"{config.heads.name} applies to layers {layers} alone",)


def _started(traces: Labelled) -> tuple[RunConfig | None, ModelInfo | None]:
    started = traces[0][1].started if traces else None
    return (None, None) if started is None else (started.config, started.info)
