"""Numbers of a few bits: a scale and a zero for each group.

A number is code · scale + zero with codes from 0 to 2^bits − 1, scale and zero in float16.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def grouped(x: Tensor, bits: int, shares: Sequence[float] = (1.0,)) -> tuple[Tensor, Tensor, Tensor]:
    """Codes uint8 [..., n], scales and zeros float16 [...] of groups x [..., n].

    shares: of the range from the least to the highest number, around its middle; each group takes the one with the least
    squared error, and numbers outside become its ends.
    """
    low, high = x.amin(-1), x.amax(-1)
    tried = [_coded(x, low + cut, high - cut, bits) for cut in ((high - low) * (1 - share) / 2 for share in shares)]
    if len(tried) == 1:
        return tried[0]
    best = torch.stack([_error(x, coded) for coded in tried]).argmin(0)[None]  # [1, ...]
    codes, scales, zeros = (torch.stack(parts) for parts in zip(*tried, strict=True))
    where = best[..., None].expand(1, *codes.shape[1:])
    return codes.gather(0, where)[0], scales.gather(0, best)[0], zeros.gather(0, best)[0]


def _coded(x: Tensor, low: Tensor, high: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    most = 2**bits - 1
    scales, zeros = ((high - low) / most).half(), low.half()
    steps = scales.float().clamp(min=torch.finfo(torch.float32).tiny)[..., None]
    codes = ((x - zeros.float()[..., None]) / steps).round().clamp(0, most)
    return codes.to(torch.uint8), scales, zeros


def _error(x: Tensor, coded: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    codes, scales, zeros = coded
    return (torch.addcmul(zeros.float()[..., None], codes.float(), scales.float()[..., None]) - x).square().sum(-1)
