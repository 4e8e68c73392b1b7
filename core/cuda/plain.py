"""The operations of a pass in plain torch, on any device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import linear, scaled_dot_product_attention

from core.attention.mask import Pattern
from core.attention.scores import by_head
from core.cuda.groups import Groups
from core.cuda.span import Span
from core.decoder.feed_forward import Activation
from core.decoder.model import RmsNorm
from core.decoder.rope import RopeTable


class Plain:
    """See core/cuda/kernels.py."""

    name = "torch"

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return linear(x, weight, bias)

    def grouped_product(self, x: Tensor, groups: Groups, bias: Tensor | None) -> Tensor:
        y = linear(x, groups.values().to(x.dtype))
        return y if bias is None else (y + bias).to(x.dtype)

    def join(
        self, x: Tensor, y: Tensor | None, after: RmsNorm | None, scale: float, before: RmsNorm | None, dtype: torch.dtype
    ) -> Tensor:
        if y is not None:
            y = y.float()
            x.add_(y if after is None else after(y), alpha=scale)
        return (x if before is None else before(x)).to(dtype)

    def keep(
        self, q: Tensor, k: Tensor, v: Tensor, rope: RopeTable | None, positions: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        q, k = q.float(), k.float()
        if rope is not None:
            q, k = rope.rotate(q, positions), rope.rotate(k, positions)
        for buffer, new in ((keys, k), (values, v)):
            buffer.index_copy_(2, positions, new.transpose(1, 2).to(buffer.dtype))
        return q.to(keys.dtype)

    def attend(self, q: Tensor, keys: Tensor, values: Tensor, span: Span, pattern: Pattern, scale: float, cap: float) -> Tensor:
        shared = q.shape[2] // keys.shape[1]
        q, keys, values = q.transpose(1, 2), keys[:, :, : span.slots], values[:, :, : span.slots]
        if shared > 1:
            keys, values = (part.repeat_interleave(shared, dim=1) for part in (keys, values))  # [B, H, S, D]
        if cap:
            y = _weights(q, keys, by_head(span.mask(pattern), q.shape[1]), scale, cap).to(values.dtype) @ values
        else:
            whole = span.sees_all(pattern)
            seen = causal_lower_right(q.shape[2], span.slots) if whole else by_head(span.mask(pattern), q.shape[1])[None]
            y = scaled_dot_product_attention(q, keys, values, attn_mask=seen, scale=scale)
        return y.transpose(1, 2)

    def gate(self, gate_up: Tensor, activation: Activation) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return activation(gate) * up


def _weights(q: Tensor, keys: Tensor, mask: Tensor, scale: float, cap: float) -> Tensor:
    """q [B, H, T, D], keys [B, H, S, D] and mask [1 or H, T, S] to [B, H, T, S] float32."""
    scores = q.float() @ keys.float().transpose(2, 3) * scale
    if cap:
        scores = cap * torch.tanh(scores / cap)
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)
