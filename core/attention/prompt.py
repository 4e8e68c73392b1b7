"""Full attention of many rows over a cache, without a mask: over what was there before, and causally over themselves."""

from __future__ import annotations

import torch
from torch import Tensor

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


def attend_after(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """Causal attention of queries [H, T, D], the last T positions of keys and values [G, S, D]; returns [T, H, D].

    All bfloat16. The two parts are joined by the logarithms of their sums, so no score is computed that is not used.
    """
    (H, T, D), G = queries.shape, len(keys)
    past, shared = keys.shape[1] - T, H // G
    own = (part[:, past:].repeat_interleave(shared, 0)[None] for part in (keys, values))
    out, weight = _flash(queries[None], *own, 0.0, True, scale=scale)
    if past:
        # Query heads that share a KV head become rows of one head: without a mask, rows are all alike.
        stacked = queries.reshape(1, G, shared * T, D)
        before, before_weight = _flash(stacked, keys[None, :, :past], values[None, :, :past], 0.0, False, scale=scale)
        share = torch.sigmoid(before_weight.reshape(1, H, T) - weight.reshape(1, H, T))[..., None].bfloat16()
        out = torch.lerp(out, before.reshape(1, H, T, D), share.expand(-1, -1, -1, D))
    attended: Tensor = out[0].transpose(0, 1)
    return attended
