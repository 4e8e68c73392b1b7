"""Share KV heads between more query heads (GQA, MQA), or give each query head its own copy (MHA)."""

from __future__ import annotations

import torch

from core.decoder.plan import Computed, LayerPlan, Plan, Source
from core.decoder.preparation import Preparation
from core.decoder.traits import Traits
from core.errors import BadInput
from core.heads.table import KvSharingOptions
from core.layers import parse_layers


def apply(options: KvSharingOptions, plan: Plan, _preparation: Preparation) -> None:
    """Rewrite K and V of the chosen layers of `plan` to `options.kv_heads` heads; BadInput when they do not divide."""
    check(options.kv_heads, plan.traits.query_heads, plan.traits.kv_heads)
    for index in parse_layers(options.layers, plan.traits.layers):
        _share(plan.layers[index], options, plan.traits)


def check(kv_heads: int, query_heads: int, trained: int) -> None:
    """BadInput unless `kv_heads` divides the query heads and is a multiple or a divisor of the trained KV heads."""
    if query_heads % kv_heads or (kv_heads % trained and trained % kv_heads):
        fits = [n for n in range(1, query_heads + 1) if query_heads % n == 0 and (n % trained == 0 or trained % n == 0)]
        raise BadInput(
            f"heads.kv_heads={kv_heads}: the model has {query_heads} query heads over {trained} KV heads, "
            f"so it can have {', '.join(map(str, fits))}"
        )


def _share(layer: LayerPlan, options: KvSharingOptions, traits: Traits) -> None:
    size = traits.head_size
    change = _repeated if options.kv_heads >= layer.kv_heads else _pooled
    layer.k, layer.v = (change(matrix, layer.kv_heads, size, options) for matrix in (layer.k, layer.v))
    norms = layer.norms if traits.qk_norm == "row" else {}  # else all heads have one norm
    for vectors, names in ((layer.biases, {"k", "v"}), (norms, {"k_norm"})):
        for name in names & set(vectors):
            column = Computed(vectors[name][:, None])
            vectors[name] = change(column, layer.kv_heads, size, options).dense()[:, 0]
    layer.kv_heads = options.kv_heads


def _repeated(matrix: Source, heads: int, size: int, options: KvSharingOptions) -> Source:
    """Each head's rows as often as query heads will read them: rows are only copied, so quantized codes stay."""
    rows = torch.arange(heads * size).reshape(heads, size)
    return matrix.rows(rows.repeat_interleave(options.kv_heads // heads, dim=0).flatten().numpy())


def _pooled(matrix: Source, heads: int, size: int, options: KvSharingOptions) -> Source:
    """One head from each group of trained heads: their mean, or the first of them."""
    grouped = matrix.dense().reshape(options.kv_heads, heads // options.kv_heads, size, -1)
    pooled = grouped.mean(dim=1) if options.pool == "mean" else grouped[:, 0]
    return Computed(pooled.reshape(options.kv_heads * size, -1))
