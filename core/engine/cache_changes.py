"""Which passes changed the cache by more than their own tokens at its end."""

from __future__ import annotations

import numpy as np

from core.events import CacheChanged, Event


class CacheChanges:
    """Lets a picture of the cache through where it does not follow from the one before."""

    def __init__(self) -> None:
        self._last: CacheChanged | None = None

    def take(self, now: CacheChanged | None) -> list[Event]:
        """The event of a pass, if it is one; what was taken stays what the next one is compared with."""
        before, self._last = self._last, now
        return [now] if now is not None and (before is None or not follows(before, now)) else []


def follows(before: CacheChanged, now: CacheChanged) -> bool:
    """Whether `now` is `before` with the tokens since in new slots at its end, each of the bits of the last one there."""
    rows, slots = before.positions.shape
    new = now.positions.shape[1] - slots
    if now.positions.shape[0] != rows or new != now.tokens - before.tokens or not slots:
        return False
    return (
        np.array_equal(now.positions[:, :slots], before.positions)
        and bool((now.positions[:, slots:] == np.arange(before.tokens, now.tokens)).all())
        and np.array_equal(now.bits, np.concatenate((before.bits, np.full(new, before.bits[-1]))))
        and np.array_equal(now.blocks, before.blocks)
    )
