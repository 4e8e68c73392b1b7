"""Numbers of a few bits: a scale and a zero for each group, codes packed into bytes.

A number is code · scale + zero with codes from 0 to 2^bits − 1, scale and zero in float16. A row of D codes takes
⌈D / n⌉ bytes, where a byte holds n = 8 / bits of them: byte j holds the codes j, j + w, j + 2w, … of w bytes, the first in
its lowest bits, so that shifting all bytes of a row alike gives a run of numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor


def grouped(x: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes uint8 [..., n], scales and zeros float16 [...] of groups x [..., n]."""
    most, low, high = 2**bits - 1, x.amin(-1), x.amax(-1)
    scales, zeros = ((high - low) / most).half(), low.half()
    steps = scales.float().clamp(min=torch.finfo(torch.float32).tiny)[..., None]
    codes = ((x - zeros.float()[..., None]) / steps).round().clamp(0, most)
    return codes.to(torch.uint8), scales, zeros


def packed(codes: Tensor, bits: int) -> Tensor:
    """Bytes [..., ⌈D · bits / 8⌉] of codes [..., D]."""
    many = 8 // bits
    codes = torch.nn.functional.pad(codes, (0, -codes.shape[-1] % many))
    planes = codes.unflatten(-1, (many, -1))
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8)[:, None]
    return (planes << shifts).sum(-2, dtype=torch.uint8)


def unpacked(codes: Tensor, bits: int, size: int) -> Tensor:
    """Codes uint8 [..., D] of bytes, D = `size`."""
    if bits == 8:
        return codes
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8)[:, None]
    return ((codes[..., None, :] >> shifts) & (2**bits - 1)).flatten(-2)[..., :size]
