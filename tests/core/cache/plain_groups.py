"""Numbers of a few bits in plain torch: a scale and a zero for each group.

A number is code · scale + zero with codes from 0 to 2^bits − 1, scale and zero in float16.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from core.cache.coded import CodedForm
from core.weights.kernel import pack

SHARES = {8: (1.0,), 4: (1.0, 0.9, 0.8, 0.7), 2: (1.0, 0.9, 0.8, 0.7)}


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


def encoded(form: CodedForm, k: Tensor, v: Tensor) -> Tensor:
    """What `form.encode` writes."""
    records = torch.zeros(len(k), k.shape[1] // form.group, form.nbytes, dtype=torch.uint8)
    form.encode(k, v, records)
    return records


def records_of(form: CodedForm, k: Tensor, v: Tensor) -> Tensor:
    """The same without compiled code."""
    blocks = k.shape[1] // form.group
    k, v = (part.float().view(len(part), blocks, form.group, -1) for part in (k, v))
    key_codes, *of_keys = grouped(k.transpose(-1, -2), form.bits)
    split = v.view(*v.shape[:3], form.sizes[1] // form.channels, form.channels)
    value_codes, *of_values = grouped(split, form.bits, SHARES[form.bits])
    codes = _packed(form, key_codes.transpose(-1, -2), 0), _packed(form, value_codes.flatten(-2).transpose(-1, -2), 1)
    key_scales, value_scales = of_keys, [part.transpose(-1, -2) for part in of_values]
    return torch.cat([codes[0], *map(_bytes, key_scales), codes[1], *map(_bytes, value_scales)], dim=-1)


def _packed(form: CodedForm, codes: Tensor, part: int) -> Tensor:
    """uint8 [G, blocks, bytes] of codes [G, blocks, rows, columns]."""
    padded = codes.new_zeros(*codes.shape[:2], *form.matrices[part])
    padded[:, :, : codes.shape[2], : codes.shape[3]] = codes
    return torch.from_numpy(pack(padded.flatten(0, 2).numpy(), form.bits)).view(*codes.shape[:2], form.parts[3 * part])


def _bytes(numbers: Tensor) -> Tensor:
    """float16 [G, blocks, ...] as bytes [G, blocks, n]."""
    return numbers.contiguous().flatten(2).view(torch.uint8)
