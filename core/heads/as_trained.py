"""KV heads as the checkpoint has them."""

from core.decoder.plan import Plan
from core.decoder.preparation import Preparation
from core.technique import NoOptions


def apply(options: NoOptions, plan: Plan, preparation: Preparation) -> None:
    """Nothing to change."""
