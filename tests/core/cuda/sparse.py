"""Sparse patterns at sizes where prompts have several blocks, and one layer that attends by a device's kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from core.attention.patterns import plans_of
from core.cuda.kernels import MOST_ROWS, Kernels
from core.cuda.span import Span
from core.cuda.store import bucket
from tests.core.attention.attending import KV_HEADS, SCALE, draws
from tests.core.cuda.device_models import attention

PATTERNS = (
    "dilated attention.window=20 attention.dilation=7",
    "strided attention.window=17 attention.stride=40",
    "local_global attention.window=9 attention.globals=3 attention.every=50",
    "bigbird attention.block=16 attention.window_blocks=2 attention.random_blocks=0",
    "bigbird attention.block=16 attention.window_blocks=2 attention.random_blocks=2 attention.seed=3",
)
TOKENS = 300
CHUNKS = {"prefill": [TOKENS], "chunked": [140, 130, 9, 21], "decode": [250, 8, *[1] * 4, 2, 36]}


def attended_on(
    kernels: Kernels, settings: str, chunks: Sequence[int], cap: float = 0.0, window: int = 0, device: str = "cpu"
) -> torch.Tensor:
    """y [T, H, D] of the draws, fed in chunks; those of at most 8 rows are steps."""
    pattern = plans_of(attention(settings), [KV_HEADS], [window])[0].surely
    found, end = [], 0
    q, k, v = (part.to(device) for part in draws(sum(chunks)))
    keys, values = torch.zeros(2, 1, KV_HEADS, bucket(len(q)), q.shape[2], device=device)
    for count in chunks:
        first, end = end, end + count
        step = count <= MOST_ROWS
        span = Span(torch.arange(first, end, device=device), bucket(end) if step else end, last=not step)
        rows = (part[None, first:end] for part in (q, k, v))
        turned = kernels.keep(*rows, None, span.positions, keys, values)
        found.append(kernels.attend(turned, keys, values, span, pattern, SCALE, cap)[0])
    return torch.cat(found).cpu()
