"""Every chart of a trace by name: what `export --chart` takes, what docks show and what the report holds."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.charts import memory as memory_charts
from core.charts.attention_grid import attention_grid
from core.charts.attention_map import attention_map
from core.charts.attention_mask import attention_mask
from core.charts.attention_mass import attention_mass
from core.charts.attention_saving import attention_saving
from core.charts.attention_summary import attention_summary
from core.charts.cache_map import cache_evictions, cache_map, cache_slots
from core.charts.chart import Chart
from core.charts.experts import expert_load, expert_routing
from core.charts.heads import heads_bytes, heads_groups
from core.charts.labelled import Labelled
from core.charts.latency_phases import latency_phases
from core.charts.latency_tokens import latency_histogram, latency_tokens
from core.charts.needle import needle
from core.charts.quality import quality, quality_kl, quality_probability
from core.charts.quality_measured import quality_figures, quality_stream
from core.charts.speculation import acceptance, speculation_rounds, speculation_table
from core.charts.uncertainty import entropy, probability
from core.errors import BadInput
from core.techniques import neighbours


@dataclass(frozen=True)
class Builder:
    """One chart of the catalogue. single: it shows the first trace given; others put all of them side by side.

    build(traces, **selection): the selections it takes are `selects`, such as `layer`, `head`, `step`, `measure`, `per`.
    """

    name: str
    title: str
    dock: str
    build: Callable[..., Chart]
    single: bool = False

    @property
    def selects(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.build).parameters)[1:]


CHARTS: dict[str, Builder] = {
    builder.name: builder
    for builder in (
        Builder("attention_map", "Attention", "attention", attention_map, single=True),
        Builder("attention_mask", "Pattern", "attention", attention_mask, single=True),
        Builder("attention_mass", "Mass kept", "attention", attention_mass, single=True),
        Builder("attention_summary", "Layers and heads", "attention", attention_summary, single=True),
        Builder("attention_grid", "All maps", "attention", attention_grid, single=True),
        Builder("attention_saving", "Saving", "attention", attention_saving),
        Builder("latency_phases", "Phases", "latency", latency_phases),
        Builder("latency_tokens", "Each token", "latency", latency_tokens),
        Builder("latency_histogram", "Histogram", "latency", latency_histogram),
        Builder("memory", "Memory", "memory", memory_charts.memory),
        Builder("kv_per_token", "Room a token", "memory", memory_charts.kv_per_token),
        Builder("kv_tokens", "KV tokens", "memory", memory_charts.kv_tokens),
        Builder("kv_context", "Against context", "memory", memory_charts.kv_context),
        Builder("cache_map", "Tokens in the cache", "cache", cache_map, single=True),
        Builder("cache_slots", "Slots", "cache", cache_slots, single=True),
        Builder("cache_evictions", "Dropped tokens", "cache", cache_evictions, single=True),
        Builder("heads_groups", "KV heads", "cache", heads_groups, single=True),
        Builder("heads_bytes", "Bytes a token", "cache", heads_bytes, single=True),
        Builder("speculation_rounds", "Rounds", "speculation", speculation_rounds, single=True),
        Builder("acceptance", "Acceptance", "speculation", acceptance),
        Builder("speculation_table", "Text", "speculation", speculation_table, single=True),
        Builder("expert_routing", "Routing", "experts", expert_routing, single=True),
        Builder("expert_load", "Load", "experts", expert_load, single=True),
        Builder("quality_figures", "Measured", "quality", quality_figures),
        Builder("quality_stream", "Along the text", "quality", quality_stream),
        Builder("needle", "Needle", "quality", needle, single=True),
        Builder("quality", "Agreement", "quality", quality),
        Builder("quality_kl", "KL divergence", "quality", quality_kl),
        Builder("quality_probability", "A's tokens", "quality", quality_probability),
        Builder("probability", "Probability", "quality", probability),
        Builder("entropy", "Entropy", "quality", entropy),
    )
}


_NUMBERS = {"layer", "head", "step"}


def build(name: str, traces: Labelled, **selection: Any) -> Chart:
    """The chart called `name` of labelled traces; BadInput for an unknown name or selection."""
    if name not in CHARTS:
        raise BadInput(f"there is no chart {name!r}; {neighbours(name, CHARTS)}")
    builder = CHARTS[name]
    for key, value in selection.items():
        if key not in builder.selects:
            raise BadInput(f"chart {name} has no selection {key!r}; {neighbours(key, builder.selects)}")
        if key in _NUMBERS and not isinstance(value, int | None):
            raise BadInput(f"chart {name}: {key} is a number, not {value!r}")
    return builder.build(traces, **selection)
