"""What the probe is shown of the attention of a layer: weights, and the share of full attention that they stand for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from core.attention.mask import Pattern, Reach
from core.attention.mechanism import Rows, Site
from core.attention.scores import adapted, by_position, scores_of, visible, weights_of
from core.cache.base import KeyValues
from core.decoder.probe import Shown


def show_reach(q: Tensor, kv: KeyValues, rows: Rows, site: Site, pattern: Pattern, held: Reach) -> None:
    """Hand the weights of q [T, H, D] over `kv` to the probe, where it asked for this layer: within `pattern`, and within what
    the cache has, `held`.
    """
    if not rows.shown(site.layer):
        return
    rows.probe.lap("attention")
    last = slice(-rows.probe.attention_rows, None)
    held = held & Reach(0, site.window)
    masks = (visible(one, rows.positions[last], kv) for one in (held, pattern))
    found = weights_of(scores_of(adapted(q[last], kv), kv, site), *masks)
    rows.probe.attention(site.layer, *by_position(*found, kv))
    rows.probe.lap("capture")


def stacked(parts: Sequence[Shown]) -> Shown:
    """Captures of successive rows as one: weights [H, T, S] are widened with zeros to the keys of the last part."""
    keys = parts[-1][1]
    widened = [np.pad(weights, ((0, 0), (0, 0), (0, len(keys) - weights.shape[2]))) for weights, _, _ in parts]
    masses = [np.ones(weights.shape[:2], np.float32) if mass is None else mass for weights, _, mass in parts]
    known = any(mass is not None for _, _, mass in parts)
    return np.concatenate(widened, axis=1), keys, np.concatenate(masses, axis=1) if known else None
