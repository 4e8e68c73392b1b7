"""How long a run may get. Free of torch."""

from __future__ import annotations

from core.config import RunConfig
from core.models.info import ModelInfo

ENDLESS = 2**31
_RECURRENT = ("linear_elu", "performer", "linear_learned")


def most_tokens(config: RunConfig, info: ModelInfo) -> int:
    """The most tokens of prompt and answer: the model's context; no end where queries see no further back, however long
    the run, or look at a state of constant size instead of at tokens.
    """
    return ENDLESS if _span(config) <= info.context or _recurrent(config) else info.context


def _span(config: RunConfig) -> int:
    """The most tokens that a query sees under the cache's policy."""
    options = config.cache.options
    match config.cache.name:
        case "rolling":
            return int(options.window)
        case "sinks":
            return int(options.sinks + options.window)
        case _:
            return ENDLESS


def _recurrent(config: RunConfig) -> bool:
    return config.attention.name in _RECURRENT and config.attention.options.layers == "all"
