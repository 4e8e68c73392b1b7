"""MoEfication: dense feed-forward blocks split into experts of their own neurons, some of them computed for each token."""

from __future__ import annotations

from core.decoder.plan import GatedPlan, Plan, SplitPlan
from core.decoder.preparation import Preparation
from core.errors import BadInput
from core.ffn.division import divisions
from core.ffn.table import MoefyOptions
from core.layers import parse_layers


def apply(options: MoefyOptions, plan: Plan, preparation: Preparation) -> None:
    """Split the dense blocks of the chosen layers of `plan`; with top_k = experts the model stays what it was.

    The first use with a model takes some seconds of looking at it; the result is kept in the cache folder.
    Raises BadInput when the experts do not divide the block's width, and whatever `preparation.progress` raises.
    """
    layers = [index for index in parse_layers(options.layers, plan.traits.layers) if _is_dense(plan, index)]
    check(options, plan, layers)
    for index, division in divisions(preparation, layers, options.experts).items():
        dense = plan.layers[index].ffn
        assert isinstance(dense, GatedPlan)
        plan.layers[index].ffn = SplitPlan(dense, tuple(division.groups), division.weight, division.bias, options.top_k)


def check(options: MoefyOptions, plan: Plan, layers: list[int]) -> None:
    """BadInput unless the dense blocks among `layers` can be split as `options` ask."""
    if not layers:
        raise BadInput("ffn.name=moefy: the chosen layers are trained mixtures of experts; use ffn.name=experts")
    if options.top_k > options.experts:
        raise BadInput(f"ffn.top_k={options.top_k} is more than ffn.experts={options.experts}")
    if plan.traits.ffn_width % options.experts:
        raise BadInput(f"ffn.experts={options.experts} does not divide the FFN width {plan.traits.ffn_width}")


def _is_dense(plan: Plan, index: int) -> bool:
    return isinstance(plan.layers[index].ffn, GatedPlan)
