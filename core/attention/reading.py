"""How much of a cache each attention technique reads for one query, from the configuration alone. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.attention.mask import Pattern, Reach, within
from core.attention.patterns import Plan
from core.config import Choice

_SUMMARY = 2  # numbers of a summary are float32, those of the cache mostly half as wide


@dataclass(frozen=True)
class Reading:
    """For some queries, [n] each, in rows of the cache and as a mean over heads.

    present: keys that full attention would see. seen: keys that get a weight. read: rows of keys and of values that are read,
    and what is as large, half of it each.
    """

    present: np.ndarray
    seen: np.ndarray
    read: np.ndarray


def reading_of(choice: Choice, plan: Plan, queries: np.ndarray, full: Reach) -> Reading | None:
    """For queries at positions [n] of a layer with `plan`, where full attention would see `full`; None where that depends on
    what is asked.
    """
    keys = np.arange(int(queries.max()) + 1)
    present, sure = _counts(full, queries, keys), _counts(within(plan.surely, full), queries, keys)
    if not plan.chosen:
        return Reading(present, sure, sure)
    match choice.name:
        case "topk":
            seen = np.minimum(present, choice.options.k)
            return Reading(present, seen, (present + seen) / 2)
        case "block_topk":
            options = choice.options
            seen = sure + np.minimum(present - sure, options.blocks * options.block)
            summaries = (queries // options.block) * (2 if options.scores == "bounds" else 1) * _SUMMARY
            return Reading(present, seen, seen + summaries * (present > seen) / 2)
        case _:
            return None


def _counts(pattern: Pattern, queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Keys that each query sees, [n], as a mean over heads."""
    counts: np.ndarray = pattern.allowed(queries, keys).sum(-1).astype(float)
    return counts.mean(0) if counts.ndim == 2 else counts
