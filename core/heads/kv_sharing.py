"""Share KV heads between more query heads (GQA, MQA), or give each query head its own copy (MHA)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from core.decoder.plan import Computed, LayerPlan, Plan, Source
from core.decoder.preparation import Preparation
from core.decoder.rope import RopeTable
from core.decoder.traits import Traits
from core.errors import BadInput
from core.heads.choice import trained_heads
from core.heads.importance import importance
from core.heads.least_squares import join_keys, join_values, shared_keys, shared_values
from core.heads.moments import VERSION, Moments, moments
from core.heads.repair import repair
from core.heads.table import KvSharingOptions, possible_kv_heads
from core.heads.trained import put_trained_heads
from core.layers import parse_layers

_Change = Callable[[Source, int, int, KvSharingOptions], Source]


def apply(options: KvSharingOptions, plan: Plan, preparation: Preparation) -> None:
    """Rewrite K and V of the chosen layers of `plan` to `options.kv_heads` heads; BadInput when they do not divide.

    With `repair`, heads that were trained for the model are taken where there are any. Else `least_squares` and `repair` take
    some seconds of looking at a model the first time; the result is kept in the cache folder.
    """
    check(options.kv_heads, plan.traits.query_heads, plan.traits.kv_heads)
    layers, fewer = parse_layers(options.layers, plan.traits.layers), options.kv_heads < plan.traits.kv_heads
    if fewer and options.repair:
        check_repair(plan.traits)
    if fewer and options.repair and (file := trained_heads(options, preparation.checkpoint.info)) is not None:
        _put(plan, file, layers, options)
    elif fewer:
        _fit(plan, layers, options, preparation)
    else:
        for index in layers:
            _share(plan.layers[index], options, plan.traits)


def _put(plan: Plan, file: Path, layers: Sequence[int], options: KvSharingOptions) -> None:
    """Take heads that were trained, with the norms of heads that are the mean of others, as they were trained with."""
    for index in layers:
        _share(plan.layers[index], replace(options, pool="mean"), plan.traits)
    put_trained_heads(plan, file, layers, options.kv_heads)


def _fit(plan: Plan, layers: Sequence[int], options: KvSharingOptions, preparation: Preparation) -> None:
    """Make fewer heads of the trained ones, and W_o as good as it can be with them."""
    if options.pool == "least_squares":
        for index, seen in zip(layers, moments(preparation, layers), strict=True):
            join(plan, index, seen, options)
    else:
        for index in layers:
            _share(plan.layers[index], options, plan.traits)
    if options.repair:
        repair(preparation, plan, layers, (options.kv_heads, options.pool, VERSION))


def check(kv_heads: int, query_heads: int, trained: int) -> None:
    """BadInput unless `kv_heads` divides the query heads and is a multiple or a divisor of the trained KV heads."""
    fits = possible_kv_heads(query_heads, trained)
    if kv_heads not in fits:
        raise BadInput(
            f"heads.kv_heads={kv_heads}: the model has {query_heads} query heads over {trained} KV heads, "
            f"so it can have {', '.join(map(str, fits))}"
        )


def check_repair(traits: Traits) -> None:
    """BadInput where what W_o gives is normed."""
    if traits.norm_place != "pre":
        raise BadInput(f"heads.repair=true: {traits.architecture} norms what W_o gives, so that it cannot be fitted alone")


def join(plan: Plan, index: int, seen: Moments, options: KvSharingOptions) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit shared heads to each group of trained ones; what W_q and W_o took over of each trained head, [G, D, D] both.

    Normed keys cannot be turned into one another: those are pooled.
    """
    layer, rope = plan.layers[index], plan.traits.ropes[index]
    weights = importance(layer, seen, plan.traits, None if rope is None else RopeTable(rope))
    second = seen.covariance + seen.mean[:, None] * seen.mean
    together, size = layer.kv_heads // options.kv_heads, layer.kv_heads * plan.traits.head_size
    groups = torch.arange(2 * size).reshape(2, options.kv_heads, -1)  # places of keys and of values
    keys = [(second[own][:, own], weights[own][:, own]) for own in groups[0]]
    values = [(seen.mixed[own - size][:, own - size], weights[own][:, own]) for own in groups[1]]
    of_outputs = join_values(layer, [shared_values(*one, together) for one in values])
    if plan.traits.qk_norm == "none":
        rotated = 0 if rope is None else rope.size
        of_queries = join_keys(layer, [shared_keys(*one, together, rotated) for one in keys])
    else:
        _pool(layer, ("k",), _pooled, options, plan.traits)
        of_queries = torch.eye(plan.traits.head_size).double().expand(of_outputs.shape)
    layer.kv_heads = options.kv_heads
    return of_queries, of_outputs


def _share(layer: LayerPlan, options: KvSharingOptions, traits: Traits) -> None:
    _pool(layer, ("k", "v"), _repeated if options.kv_heads >= layer.kv_heads else _pooled, options, traits)
    layer.kv_heads = options.kv_heads


def _pool(layer: LayerPlan, letters: Sequence[str], change: _Change, options: KvSharingOptions, traits: Traits) -> None:
    """Change the rows of the projections called `letters`, and of what goes with them."""
    size = traits.head_size
    for letter in letters:
        setattr(layer, letter, change(getattr(layer, letter), layer.kv_heads, size, options))
    norms = layer.norms if traits.qk_norm == "row" else {}  # else all heads have one norm
    for vectors, names in ((layer.biases, set(letters)), (norms, {"k_norm"})):
        for name in names & set(vectors):
            column = Computed(vectors[name][:, None])
            vectors[name] = change(column, layer.kv_heads, size, options).dense()[:, 0]


def _repeated(matrix: Source, heads: int, size: int, options: KvSharingOptions) -> Source:
    """Each head's rows as often as query heads will read them: rows are only copied, so quantized codes stay."""
    rows = torch.arange(heads * size).reshape(heads, size)
    return matrix.rows(rows.repeat_interleave(options.kv_heads // heads, dim=0).flatten().numpy())


def _pooled(matrix: Source, heads: int, size: int, options: KvSharingOptions) -> Source:
    """One head from each group of trained heads: their mean, or the first of them."""
    grouped = matrix.dense().reshape(options.kv_heads, heads // options.kv_heads, size, -1)
    pooled = grouped[:, 0] if options.pool == "first" else grouped.mean(dim=1)
    return Computed(pooled.reshape(options.kv_heads * size, -1))
