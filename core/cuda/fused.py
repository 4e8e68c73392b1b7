"""The operations of a pass in Triton where rows are few, and in torch's own kernels where they are many."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import silu

from core.attention.mask import FULL, Pattern, Reach
from core.cuda import attention_kernels, pass_kernels
from core.cuda.flex import Flexible
from core.cuda.products import Products
from core.cuda.span import Span
from core.decoder.feed_forward import Activation
from core.decoder.model import RmsNorm
from core.decoder.rope import RopeTable

_SLOTS = 64  # of the cache, one program of attention
_RUNS = 16  # of slots, joined at once
_GATED = 1024  # columns one program


class Fused(Products, Flexible):
    """See core/cuda/kernels.py. Attention of prompts is left to torch, whose kernels need no mask or skip what it hides."""

    name = "Triton"

    def join(
        self, x: Tensor, y: Tensor | None, after: RmsNorm | None, scale: float, before: RmsNorm | None, dtype: torch.dtype
    ) -> Tensor:
        rows, C = x.shape
        out = torch.empty(rows, C, dtype=dtype, device=x.device)
        eps = next((norm.eps for norm in (after, before) if norm is not None), 0.0)
        pass_kernels.join[(rows,)](
            x, x if y is None else y, x if after is None else after.weight, x if before is None else before.weight, out,
            scale, eps, C=C, HAS_Y=y is not None, HAS_AFTER=after is not None, HAS_BEFORE=before is not None,
            BLOCK=_power(C), num_warps=min(16, max(1, _power(C) // 512)),
        )  # fmt: skip
        return out

    def keep(
        self, q: Tensor, k: Tensor, v: Tensor, rope: RopeTable | None, positions: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        B, T, H, D = q.shape
        turned = torch.empty(B, T, H, D, dtype=keys.dtype, device=q.device)
        cos, sin, half = (q, q, 0) if rope is None else (rope.cos, rope.sin, rope.rope.size // 2)
        steps = [stride for part in (q, k, v) for stride in part.stride()[:2]]
        pass_kernels.keep[(B * T, H + 2 * k.shape[2])](
            q, k, v, cos, sin, positions, turned, keys, values, *steps, *keys.stride()[:3], T,
            H=H, G=k.shape[2], D=D, HALF=half, BLOCK=_power(D), num_warps=1,
        )  # fmt: skip
        return turned

    def attend(self, q: Tensor, keys: Tensor, values: Tensor, span: Span, pattern: Pattern, scale: float, cap: float) -> Tensor:
        if span.last:
            return super().attend(q, keys, values, span, pattern, scale, cap)
        (B, T, H, D), G = q.shape, keys.shape[1]
        masked, reach = not isinstance(pattern, Reach), pattern if isinstance(pattern, Reach) else FULL
        mask = span.mask(pattern).contiguous().view(torch.uint8) if masked else span.positions
        runs, width = -(-span.slots // _SLOTS), max(16, _power(D))
        sums = torch.empty(B * T * H, runs, width, device=q.device)
        tops, masses = torch.empty(2, B * T * H, runs, device=q.device)
        attention_kernels.attend_part[(B * T * G, runs)](
            q, keys, values, span.positions, mask, sums, tops, masses, scale, cap, span.slots,
            mask.stride(0) if mask.ndim == 3 else 0, *keys.stride()[:3], T=T, G=G, SHARED=H // G,
            HEADS=max(16, _power(H // G)), D=D, WIDTH=width, SLOTS=_SLOTS, CAPPED=cap != 0, MASKED=masked,
            WINDOW=reach.window or 0, SINKS=reach.sinks, SINK_REACH=reach.sink_reach or 0,
            num_warps=4,
        )  # fmt: skip
        out = torch.empty_like(q)
        attention_kernels.attend_whole[(B * T * H,)](
            sums, tops, masses, out, D=D, WIDTH=width, RUNS=runs, AT_ONCE=_RUNS, num_warps=2
        )
        return out

    def gate(self, gate_up: Tensor, activation: Activation) -> Tensor:
        R, F = len(gate_up), gate_up.shape[1] // 2
        out = torch.empty(R, F, dtype=gate_up.dtype, device=gate_up.device)
        pass_kernels.gate[(R, -(-F // _GATED))](gate_up, out, F, SILU=activation is silu, BLOCK=_GATED, num_warps=4)
        return out


def _power(count: int) -> int:
    """The least power of two that is no less."""
    return 1 << (count - 1).bit_length()
