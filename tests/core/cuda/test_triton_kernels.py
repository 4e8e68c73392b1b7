"""Triton kernels, interpreted on the processor (or run on a GPU), against plain torch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.nn.functional import silu

from core.attention.mask import FULL, Reach
from core.cuda.groups import Groups
from core.cuda.plain import Plain
from core.cuda.span import Span
from core.decoder.feed_forward import gelu_tanh
from core.decoder.model import RmsNorm
from core.decoder.rope import RopeTable
from core.decoder.traits import Rope

PLAIN = Plain()


@pytest.fixture(scope="module")
def fused() -> Iterator[object]:
    pytest.importorskip("triton", reason="triton is not installed; torch for CUDA brings it")
    from core.cuda.fused import Fused

    return Fused()


def random(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def grouped(n: int, k: int, bits: int, group: int, offsets: bool) -> Groups:
    generator = torch.Generator().manual_seed(n + k + bits)
    codes = torch.randint(0, 2**bits, (n, k), dtype=torch.uint8, generator=generator)
    count = -(-k // group)
    scales = (torch.rand(n, count, generator=generator) + 0.5).half().float() / 2**bits
    return Groups.of(codes, scales, -scales * 2 ** (bits - 1) if offsets else None, bits, group)


@pytest.mark.parametrize("rows", [1, 3, 8, 9, 40, 130])
@pytest.mark.parametrize(
    ("bits", "group", "k", "offsets"),
    [(4, 128, 512, True), (4, 32, 320, True), (4, 64, 256, False), (8, 128, 256, True), (6, 16, 96, False), (4, 48, 96, True), (8, 100, 100, True)],
)
def test_that_packed_products_equal_products_with_the_values(fused, rows: int, bits: int, group: int, k: int, offsets: bool) -> None:
    groups, x, bias = grouped(50, k, bits, group, offsets), random(rows, k), random(50)
    expected = x @ groups.values().T + bias
    found = fused.grouped_product(x, groups, bias)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
