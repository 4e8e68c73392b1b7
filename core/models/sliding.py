"""Which layers of a checkpoint see only a window of recent tokens, as trained. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.decoder.traits import traits_of
from core.errors import BadInput


def sliding_windows(config: Mapping[str, Any]) -> tuple[int, ...]:
    """The window of each layer, 0 where it sees everything; empty where none slides, or the local engine cannot tell."""
    try:
        windows = traits_of(config).windows
    except (BadInput, KeyError, TypeError, ValueError):
        return ()  # loading such a model says what is wrong with it
    return tuple(window or 0 for window in windows) if any(windows) else ()
