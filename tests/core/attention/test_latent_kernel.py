"""Kernels that make keys of latents, against plain torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.attention.few_tiled import close_kernel, open_kernel
from core.attention.latent_kernel import RUN, as_tiles, gather_kernel, padded, tiled_products, turn_kernel
from core.cache.base import lines
from core.compiled import tiles
from core.compiled.jit import callable_at

EPS = 1e-5


@pytest.mark.parametrize("sizes", [(96, 96), (24, 24), (11, 10)])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_that_latents_are_gathered_with_zeros_after_them(
    sizes: tuple[int, int], stored: torch.dtype, dtype: torch.dtype
) -> None:
    if (stored, dtype) == (torch.float32, torch.bfloat16):
        pytest.skip("latents are never narrowed")
    first, second = (torch.randn(7, size).to(stored) for size in sizes)
    target = torch.full((8, padded(sum(sizes))), torch.nan, dtype=dtype)
    callable_at(gather_kernel(sizes, stored, dtype), 4)(first.data_ptr(), second.data_ptr(), target.data_ptr(), 7)
    assert torch.equal(target[:7, : sum(sizes)], torch.cat((first, second), dim=1).to(dtype))
    assert not target[:7, sum(sizes) :].any()
    assert target[7].isnan().all()


@pytest.mark.skipif(not tiles.available(), reason="this processor has no matrix tiles (AMX)")
@pytest.mark.parametrize(("size", "width"), [(64, 192), (32, 32), (96, 64), (128, 256)])
def test_that_products_on_tiles_equal_plain_products(size: int, width: int) -> None:
    latents, matrices = torch.randn(RUN, width).bfloat16(), torch.randn(3, size, width).bfloat16()
    products, laid = lines(4 * RUN * size).view(torch.float32).view(RUN, size), as_tiles(matrices)
    callable_at(open_kernel(), 1)(tiles.configuration().ctypes.data)
    callable_at(tiled_products(size, width), 3)(latents.data_ptr(), laid[1].data_ptr(), products.data_ptr())
    callable_at(close_kernel(), 0)()
    assert torch.allclose(products, latents.float() @ matrices[1].float().T, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(("size", "half"), [(64, 32), (24, 12), (96, 16), (32, 0), (20, 4)])
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_that_keys_are_centred_normed_and_rotated(size: int, half: int, normed: bool, dtype: torch.dtype) -> None:
    products, mean, norm, angles = torch.randn(5, size), torch.randn(size), torch.rand(size), torch.randn(5, half)
    keys, cos, sin = torch.empty(5, size, dtype=dtype), angles.cos(), angles.sin()
    eps = int(np.float32(EPS).view(np.int32))
    addresses = (part.data_ptr() for part in (cos, sin, keys))
    run = callable_at(turn_kernel(size, half, normed, dtype), 8)
    run(products.data_ptr(), mean.data_ptr(), norm.data_ptr(), eps, *addresses, 5)
    x = products + mean
    x = torch.nn.functional.rms_norm(x, (size,), norm, EPS) if normed else x
    a, b = x[:, :half], x[:, half : 2 * half]
    expected = torch.cat((a * cos - b * sin, b * cos + a * sin, x[:, 2 * half :]), dim=1)
    assert torch.allclose(keys.float(), expected, atol=1e-5 if dtype == torch.float32 else 0.03)
