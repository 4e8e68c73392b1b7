"""What of a cache in a file is in memory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from core.cache.base import Layout
from core.cache.offloaded import Offloaded
from core.errors import BadInput
from core.technique import NoOptions

LAYERS, TOKENS, HEADS, SIZE = 8, 4096, 2, 64
LAYOUT = Layout((HEADS,) * LAYERS, SIZE, TOKENS, torch.bfloat16)


def resident(address: int) -> int:
    """Bytes in memory of the mapping that begins at `address`."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    for line in lines:
        if line.startswith(f"{address:x}-"):
            return next(int(part.split()[1]) * 1024 for part in lines if part.startswith("Rss:"))
    raise AssertionError("there is no such mapping")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of this system does not list mappings")
def test_that_no_more_than_two_layers_are_in_memory_and_all_come_back() -> None:
    cache = Offloaded(NoOptions(), LAYOUT)
    k = torch.randn(TOKENS - 1, HEADS, SIZE).bfloat16()
    for layer in range(LAYERS):
        cache.update(layer, k + layer, k - layer)
    cache.advance(TOKENS - 1)
    address = cache.keys[0].data_ptr()
    assert resident(address) < 0.2 * LAYERS * LAYOUT.layer_nbytes(0) * TOKENS
    one = torch.zeros(1, HEADS, SIZE)
    for layer in range(LAYERS):
        kv = cache.update(layer, one, one)
        assert torch.equal(kv.keys[:, :-1], (k + layer).transpose(0, 1))
        assert torch.equal(kv.values[:, :-1], (k - layer).transpose(0, 1))
        assert resident(address) < (2 + 0.5) * LAYOUT.layer_nbytes(0) * TOKENS
    cache.advance(1)
    assert cache.nbytes == 2 * LAYOUT.layer_nbytes(0) * TOKENS
    assert cache.offloaded == LAYERS * LAYOUT.layer_nbytes(0) * TOKENS


def test_that_a_full_file_is_said() -> None:
    cache = Offloaded(NoOptions(), Layout((1,), 4, 3, torch.float32))
    with pytest.raises(BadInput, match="room for the 3 tokens"):
        cache.update(0, torch.zeros(4, 1, 4), torch.zeros(4, 1, 4))
