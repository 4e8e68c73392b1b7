"""What the decoder on a device asks to be computed; core/cuda/plain.py is torch, core/cuda/fused.py Triton."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor

from core.attention.mask import Pattern
from core.cuda.groups import Groups
from core.cuda.span import Span
from core.decoder.feed_forward import Activation
from core.decoder.model import RmsNorm
from core.decoder.rope import RopeTable

MOST_ROWS = 8  # of a step: up to here a row comes out the same bit for bit, whatever rows are computed with it


class Kernels(Protocol):
    """The operations of a pass. Tensors lie on one device; x, of the residual stream, is float32."""

    name: str  # as the environment of a run tells it

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x [R, K] times weight [N, K], all of one number format; [R, N]."""

    def grouped_product(self, x: Tensor, groups: Groups, bias: Tensor | None) -> Tensor:
        """x [R, K] times the matrix [N, K] that `groups` stands for; [R, N] in the format of x."""

    def join(
        self, x: Tensor, y: Tensor | None, after: RmsNorm | None, scale: float, before: RmsNorm | None, dtype: torch.dtype
    ) -> Tensor:
        """Add after(y) · scale to x [R, C], in place; before(x) as `dtype`. Norms that are None change nothing."""

    def keep(
        self, q: Tensor, k: Tensor, v: Tensor, rope: RopeTable | None, positions: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        """Rotate q [B, T, H, D] and k [B, T, G, D] to `positions` [T], write k and v into keys and values [B, G, S, D] there.

        Returns q in the format of the keys.
        """

    def attend(self, q: Tensor, keys: Tensor, values: Tensor, span: Span, pattern: Pattern, scale: float, cap: float) -> Tensor:
        """Softmax attention of q [B, T, H, D] over what the pattern shows of the span's slots of keys and values [B, G, S, D].

        Returns [B, T, H, D].
        """

    def gate(self, gate_up: Tensor, activation: Activation) -> Tensor:
        """Activation of the first half of the columns, times the second half; [R, 2F] to [R, F]."""


def kernels_for(device: torch.device) -> Kernels:
    """Triton's on CUDA, where torch brings it, else torch's."""
    if device.type == "cuda" and find_spec("triton") is not None:
        from core.cuda.fused import Fused

        return Fused()
    from core.cuda.plain import Plain

    return Plain()
