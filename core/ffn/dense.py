"""The feed-forward block as trained."""

from core.decoder.plan import Plan
from core.technique import NoOptions


def apply(options: NoOptions, plan: Plan) -> None:
    """Nothing to change."""
