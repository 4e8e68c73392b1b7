"""KV heads as the checkpoint has them."""

from core.decoder.plan import Plan
from core.technique import NoOptions


def apply(options: NoOptions, plan: Plan) -> None:
    """Nothing to change."""
