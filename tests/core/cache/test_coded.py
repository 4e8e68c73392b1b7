"""Records of coded blocks against codes, scales and zeros as they are."""

from __future__ import annotations

import pytest
import torch
from plain_groups import SHARES, encoded, grouped, records_of

from core.cache.coded import CodedBlocks, CodedForm

pytestmark = pytest.mark.usefixtures("one_thread")


def coded(x: torch.Tensor, bits: int, shares: tuple[float, ...] = (1.0,)) -> torch.Tensor:
    """Groups [..., n] as they come out of their codes."""
    codes, scales, zeros = grouped(x, bits, shares)
    return codes.float() * scales.float()[..., None] + zeros.float()[..., None]


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("group", [2, 16, 32])
@pytest.mark.parametrize("sizes", [(1, 1), (7, 12), (64, 64), (24, 0)])
def test_that_a_record_stands_for_the_numbers_of_its_codes(bits: int, group: int, sizes: tuple[int, int]) -> None:
    form, generator = CodedForm.of(bits, group, sizes), torch.Generator().manual_seed(1)
    k, v = (torch.randn(2, 3 * group, size, generator=generator) for size in sizes)
    records = encoded(form, k, v)
    assert records.shape == (2, 3, form.nbytes)
    keys, values = form.plain(records, torch.float32)
    expected = coded(k.view(2, 3, group, -1).transpose(2, 3), bits).transpose(2, 3).flatten(1, 2)
    assert torch.allclose(keys, expected, atol=1e-6)
    split = v.view(2, 3 * group, sizes[1] // form.channels, form.channels)
    assert torch.allclose(values, coded(split, bits, SHARES[bits]).flatten(2), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("shape", [(8, 32, 64), (4, 32, 64), (4, 16, 80), (2, 64, 48), (2, 16, 24), (8, 4, 7), (4, 128, 256)])
def test_that_records_are_those_of_plain_torch_to_the_last_bit(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    bits, group, size = shape
    form, generator = CodedForm.of(bits, group, (size, size)), torch.Generator().manual_seed(2)
    k, v = (3 * torch.randn(2, 3 * group, size, generator=generator).to(dtype) for _ in range(2))
    k[0, :group], v[1, 0] = 0.3, -0.7  # one number throughout
    assert torch.equal(encoded(form, k, v), records_of(form, k, v))


def test_that_parts_of_longer_buffers_are_coded_and_come_out_where_they_are_wanted() -> None:
    form, generator = CodedForm.of(4, 16, (24, 24)), torch.Generator().manual_seed(3)
    buffers = torch.randn(2, 3, 100, 24, generator=generator)
    k, v = buffers[:, :, 5:69]
    records = encoded(form, k, v)
    assert torch.equal(records, encoded(form, k.contiguous(), v.contiguous()))
    wide, room = torch.zeros(3, 9, form.nbytes, dtype=torch.uint8), torch.full((2, 3, 70, 24), torch.nan)
    wide[:, :4] = records
    form.expand(wide[:, :4], room[0][:, 3:67], room[1][:, 3:67])
    assert torch.equal(room[:, :, 3:67], torch.stack(form.plain(records, torch.float32)))
    assert room[:, :, :3].isnan().all()
    assert room[:, :, 67:].isnan().all()


def test_that_blocks_keep_what_they_hold_when_they_grow() -> None:
    form = CodedForm.of(4, 16, (8, 8))
    blocks = CodedBlocks([form, form], (2, 0))
    blocks.reserve(2, 0)
    blocks.records[0].random_(0, 255)
    before = blocks.records[0].clone()
    blocks.reserve(5, 2)
    assert torch.equal(blocks.records[0][:, :2], before)
    assert [tuple(part.shape) for part in blocks.records] == [(2, 5, form.nbytes), (0, 5, form.nbytes)]
    assert blocks.nbytes == blocks.held_nbytes(5) == 2 * 5 * form.nbytes
