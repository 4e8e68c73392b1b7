"""The operations of a pass in plain torch, on any device."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import linear, scaled_dot_product_attention

from core.attention.mask import Pattern, Reach
from core.attention.scores import by_head
from core.cuda.groups import Groups
from core.cuda.span import Span
from core.decoder.feed_forward import Activation
from core.decoder.model import RmsNorm
from core.decoder.rope import RopeTable

_BLOCK = 256  # queries of a prompt that look at the same part of the cache together


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
        keys, values = keys[:, :, : span.slots], values[:, :, : span.slots]
        if span.sees_all(pattern) and not cap:
            return _attended(q, keys, values, causal_lower_right(q.shape[1], span.slots), scale, cap)
        if not span.last or not isinstance(pattern, Reach) or pattern.window is None:
            return _attended(q, keys, values, by_head(span.mask(pattern), q.shape[2])[None], scale, cap)
        found = []
        for rows, slots, mask in span.once(("blocks", pattern), lambda: list(_blocks(span, pattern))):
            some = keys.index_select(2, slots), values.index_select(2, slots)
            found.append(_attended(q[:, rows], *some, mask[None, None], scale, cap))
        return torch.cat(found, dim=1)

    def gate(self, gate_up: Tensor, activation: Activation) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return activation(gate) * up


def _blocks(span: Span, reach: Reach) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """For each block of queries of a prompt: its rows, the slots [n] that window and sinks reach, and the mask [rows, n]."""
    device, before = span.positions.device, span.slots - len(span.positions)
    assert reach.window is not None
    for begin in range(0, len(span.positions), _BLOCK):
        rows = slice(begin, begin + _BLOCK)
        end = min(before + rows.stop, span.slots)
        low = min(end, max(reach.sinks, before + begin + 1 - reach.window))
        runs = torch.arange(min(reach.sinks, end), device=device), torch.arange(low, end, device=device)
        slots = torch.cat(runs)
        yield rows, slots, reach.allowed(span.positions[rows], slots)


def _attended(q: Tensor, keys: Tensor, values: Tensor, seen: Tensor, scale: float, cap: float) -> Tensor:
    """Attention of q [B, T, H, D] over what is seen [1, 1 or H, T, S] of keys and values [B, G, S, D]; [B, T, H, D]."""
    shared, q = q.shape[2] // keys.shape[1], q.transpose(1, 2)
    if shared > 1:
        keys, values = (part.repeat_interleave(shared, dim=1) for part in (keys, values))  # [B, H, S, D]
    if cap:
        return (_weights(q, keys, seen, scale, cap).to(values.dtype) @ values).transpose(1, 2)
    return scaled_dot_product_attention(q, keys, values, attn_mask=seen, scale=scale).transpose(1, 2)


def _weights(q: Tensor, keys: Tensor, mask: Tensor, scale: float, cap: float) -> Tensor:
    """q [B, H, T, D], keys [B, H, S, D] and mask [1, 1 or H, T, S] to [B, H, T, S] float32."""
    scores = cap * torch.tanh(q.float() @ keys.float().transpose(2, 3) * scale / cap)
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)
