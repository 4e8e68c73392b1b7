"""What the KV cache held after each pass of a run, from its recorded changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from core.events import CacheChanged
from core.trace import Trace


def held_after(trace: Trace, step: int) -> CacheChanged | None:
    """After pass `step`: the last change up to it, with the tokens since at its end. None where nothing was recorded."""
    last = next((change for change in reversed(trace.cache) if change.step <= step), None)
    return None if last is None else grown(last, seen_after(trace, step))


def seen_after(trace: Trace, step: int) -> int:
    """Tokens that had been fed after pass `step`: all but the last one that it gave."""
    return len(trace.prompt_tokens) + sum(len(one.tokens) for one in trace.steps if one.index <= step) - 1


def grown(change: CacheChanged, tokens: int) -> CacheChanged:
    """`change` with the tokens that were appended until `tokens` had been seen."""
    rows, slots = change.positions.shape
    new = np.arange(change.tokens, max(tokens, change.tokens), dtype=np.int32)
    if not new.size or not slots:
        return change
    positions = np.concatenate((change.positions, np.broadcast_to(new, (rows, new.size))), axis=1)
    bits = np.concatenate((change.bits, np.full(new.size, change.bits[-1], np.float32)))
    return replace(change, tokens=tokens, positions=positions, bits=bits)


def passes(trace: Trace) -> Iterator[tuple[int, CacheChanged]]:
    """Each recorded pass, in order, and what was held after it."""
    changes, at, seen = trace.cache, -1, len(trace.prompt_tokens) - 1
    for step in trace.steps:
        seen += len(step.tokens)
        while at + 1 < len(changes) and changes[at + 1].step <= step.index:
            at += 1
        if at >= 0:
            yield step.index, grown(changes[at], seen)


def of_layer(change: CacheChanged, layer: int | None) -> np.ndarray:
    """Positions [rows, S] of one layer; of all where None, or where all are alike."""
    rows = change.layers == layer
    return change.positions[rows] if layer is not None and rows.any() else change.positions


def bits_by_position(change: CacheChanged, layer: int | None) -> np.ndarray:
    """Bits of a stored number of each token seen [tokens], averaged over the heads: 0 is held by none."""
    positions = of_layer(change, layer)
    held = positions >= 0
    weights = np.broadcast_to(change.bits, positions.shape)[held]
    return np.bincount(positions[held], weights, minlength=change.tokens)[: change.tokens] / max(1, len(positions))


def pass_name(step: int) -> str:
    return "prompt" if step < 0 else f"pass {step + 1}"
