"""Attention over a quantized cache against a plain computation, row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attending import CHUNKS, HEADS, KV_HEADS, SCALE, SIZE, TOKENS, attended, context_of, draws, site

from core.cache.base import Layout
from core.cache.quantized import Quantized
from core.cache.table import QuantizedOptions
from core.decoder.probe import Probe

pytestmark = pytest.mark.usefixtures("one_thread")
LAYOUT = Layout((KV_HEADS,), SIZE, TOKENS, torch.float32)


def coded(numbers: np.ndarray, bits: int, share: float = 1.0) -> np.ndarray:
    """One group [n] as it comes out of its codes."""
    width = numbers.max() - numbers.min()
    zero = np.float32(np.float16(numbers.min() + width * np.float32((1 - share) / 2)))
    scale = np.float32(np.float16((width - 2 * (width * np.float32((1 - share) / 2))) / (2**bits - 1)))
    return np.clip(np.rint((numbers - zero) / scale), 0, 2**bits - 1) * scale + zero


def coded_values(numbers: np.ndarray, bits: int) -> np.ndarray:
    tried = [coded(numbers, bits, share) for share in ((1.0,) if bits == 8 else (1.0, 0.9, 0.8, 0.7))]
    return min(tried, key=lambda one: float(((one - numbers) ** 2).sum()))


def plain(bits: int, group: int, residual: int, sinks: int) -> torch.Tensor:
    """y [T, H, D]: for the query at p, blocks after the sinks that `residual` tokens up to p follow are coded."""
    q, k, v = (part.numpy() for part in draws())
    found = np.empty((TOKENS, HEADS, SIZE), np.float32)
    for p in range(TOKENS):
        keys, values = k[: p + 1].copy(), v[: p + 1].copy()
        for start in range(sinks, p + 1, group):
            if start + group + residual > p + 1:
                break
            for head in range(KV_HEADS):
                for channel in range(SIZE):
                    keys[start : start + group, head, channel] = coded(k[start : start + group, head, channel], bits)
                for token in range(start, start + group):
                    for first in range(0, SIZE, min(2 * group, SIZE)):
                        some = slice(first, first + min(2 * group, SIZE))
                        values[token, head, some] = coded_values(v[token, head, some], bits)
        for head in range(HEADS):
            own = head // (HEADS // KV_HEADS)
            scores = np.exp(keys[:, own] @ q[p, head] * SCALE)
            found[p, head] = scores / scores.sum() @ values[:, own]
    return torch.from_numpy(found)


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("options", [(8, 16, 1, 0), (4, 4, 3, 2), (2, 2, 9, 3), (2, 16, 3, 0), (4, 4, 40, 1), (4, 4, 1, 30)])
def test_that_a_query_sees_the_codes_of_what_has_closed_before_it(
    chunks: list[int], options: tuple[int, int, int, int]
) -> None:
    context = context_of("attention.name=full", site(), Quantized(QuantizedOptions(*options), LAYOUT))
    assert (attended(context, chunks) - plain(*options)).abs().max() < 1e-4


def test_that_captured_weights_count_each_token_once() -> None:
    probe = Probe([0])
    context = context_of("attention.name=full", site(), Quantized(QuantizedOptions(4, 4, 3, 2), LAYOUT))
    attended(context, [10, 27], probe)
    weights, positions, _ = probe.take_attention()[0]
    assert positions.tolist() == list(range(TOKENS))
    assert np.abs(weights.astype(float).sum(-1) - 1).max() < 1e-2


def test_that_bytes_are_those_of_codes_scales_and_the_exact_tail() -> None:
    tokens, size, heads = 2048, 64, 3
    cache = Quantized(QuantizedOptions(bits=2), Layout((heads,), size, tokens, torch.bfloat16))
    part = torch.randn(tokens, heads, size)
    cache.update(0, part, part)
    cache.advance(tokens)
    blocks = (tokens - 4 - 24) // 32
    coded_bytes = 2 * heads * blocks * 32 * size * 2 // 8
    scales = heads * blocks * (size + 32 * size // 64) * 2 * 2
    assert cache.nbytes == coded_bytes + scales + 2 * heads * size * (4 + 24 + 32) * 2
    assert cache.nbytes < 0.2 * cache.layout.token_nbytes * tokens
