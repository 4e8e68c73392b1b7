"""A trained mixture of experts with another number of active experts."""

from dataclasses import replace

from core.decoder.plan import ExpertsPlan, Plan
from core.decoder.preparation import Preparation
from core.errors import BadInput
from core.ffn.table import ExpertsOptions
from core.layers import parse_layers


def apply(options: ExpertsOptions, plan: Plan, _preparation: Preparation) -> None:
    """Set the active experts of the chosen layers; BadInput for a dense model or more experts than there are."""
    if not any(isinstance(layer.ffn, ExpertsPlan) for layer in plan.layers):
        raise BadInput("ffn.name=experts: this model has no trained experts; ffn.name=moefy splits a dense one")
    for index in parse_layers(options.layers, plan.traits.layers):
        ffn = plan.layers[index].ffn
        if isinstance(ffn, ExpertsPlan):
            ffn.traits = replace(ffn.traits, used=_checked(options.top_k, ffn.traits.count))


def _checked(top_k: int, count: int) -> int:
    if top_k > count:
        raise BadInput(f"ffn.top_k={top_k}: the model has {count} experts a layer")
    return top_k
