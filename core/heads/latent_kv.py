"""A cache of latents: keys and values through fewer numbers than they have, and back when they are looked at."""

from __future__ import annotations

import torch
from torch import Tensor

from core.decoder.plan import Computed, LatentPlan, LayerPlan, Plan
from core.decoder.preparation import Preparation
from core.decoder.rope import RopeTable
from core.errors import BadInput
from core.heads.axes import weighed_axes
from core.heads.importance import importance
from core.heads.moments import Moments, moments
from core.heads.table import LatentKvOptions
from core.layers import parse_layers


def apply(options: LatentKvOptions, plan: Plan, preparation: Preparation) -> None:
    """Put a latent of `options.rank` numbers in the place of keys and values of the chosen layers of `plan`.

    The first use with a model takes some seconds of looking at it; the result is kept in the cache folder.
    Raises BadInput when the rank is more than keys and values have, and whatever `preparation.progress` raises.
    """
    most = 2 * plan.traits.kv_heads * plan.traits.head_size
    if options.rank > most:
        raise BadInput(f"heads.rank={options.rank} is more than the {most} numbers of a token's keys and values in a layer")
    layers = parse_layers(options.layers, plan.traits.layers)
    for done, (index, seen) in enumerate(zip(layers, moments(preparation, layers), strict=True)):
        preparation.progress("latent", done, len(layers))
        layer, rope = plan.layers[index], plan.traits.ropes[index]
        weights = importance(layer, seen, plan.traits, None if rope is None else RopeTable(rope))
        layer.latent = latent_of(layer, seen, weights, options.rank)


def latent_of(layer: LayerPlan, seen: Moments, weights: Tensor, rank: int) -> LatentPlan:
    """The latent of `rank` numbers that gives keys and values back with the least squared error, weighed [2·G·D, 2·G·D].

    Where SVD-LLM (Wang et al. 2024) whitens the inputs of W_k and W_v, this takes the principal axes of what comes out of
    both together, which is the same, with what Palu (Chang et al. 2024) leaves out: how much each error matters.
    """
    expand, compress = weighed_axes(seen.covariance, weights, rank)
    matrix = torch.cat((layer.k.dense(), layer.v.dense())).double()  # [2·G·D, C]
    bias = torch.cat((layer.biases["k"], layer.biases["v"])).double() if "k" in layer.biases else 0.0
    return LatentPlan(
        Computed((compress @ matrix).float()), (compress @ (bias - seen.mean)).float(), expand.float(), seen.mean.float()
    )
