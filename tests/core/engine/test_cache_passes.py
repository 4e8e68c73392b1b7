"""Every cache through the engine's own passes: compiled or plain, in chunks of any size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from core.config import RunConfig
from core.decoder.probe import Probe
from core.engine.local import LocalBackend

TOKENS = [3 + i * i % 200 for i in range(90)]
CACHES = [
    "sinks cache.sinks=3 cache.window=20", "sinks cache.sinks=3 cache.window=200", "rolling cache.window=20",
    "quantized cache.group_size=16 cache.residual=4", "h2o cache.budget=24", "snapkv",
    "paged cache.block_size=8", "offloaded",
]  # fmt: skip


@pytest.fixture(scope="module")
def backend(tiny_llama: Path) -> LocalBackend:
    return LocalBackend.load(RunConfig(model=str(tiny_llama)).set(["weights.name=cast"]), lambda *_: None)


def logits(backend: LocalBackend, settings: str, chunks: Sequence[int]) -> torch.Tensor:
    """Logits [T, V] of all tokens, fed in chunks."""
    session = backend.session(RunConfig().set(f"cache.name={settings}".split()), 90, Probe())
    parts = torch.tensor(TOKENS).split(list(chunks))
    return torch.cat([session.forward(part.tolist(), all_logits=True).clone() for part in parts])


@pytest.mark.parametrize("settings", CACHES)
def test_that_decoding_gives_the_logits_of_one_long_pass(backend: LocalBackend, settings: str) -> None:
    whole = logits(backend, settings, [90])
    for chunks in ([30] * 3, [40, *[1] * 50]):
        assert (logits(backend, settings, chunks) - whole).abs().max() < 2e-3 * whole.abs().max()


def test_that_a_condensed_prompt_decodes_alike_in_compiled_and_in_plain_passes(backend: LocalBackend) -> None:
    found = []
    for rows in ([1] * 12, [12]):
        session = backend.session(RunConfig().set(["cache.name=snapkv", "cache.window=4"]), 90, Probe())
        session.forward(TOKENS[:60])
        session.end_prompt()
        assert session.kv_tokens == 15
        parts = torch.tensor(TOKENS[60:72]).split(rows)
        found.append(torch.cat([session.forward(part.tolist(), all_logits=True).clone() for part in parts]))
        assert session.kv_tokens == 27
    watched = backend.session(RunConfig().set(["cache.name=snapkv", "cache.window=4"]), 90, Probe([0]))
    watched.forward(TOKENS[:60])
    watched.end_prompt()
    found.append(watched.forward(TOKENS[60:72], all_logits=True))
    assert (found[0] - found[1]).abs().max() < 2e-3 * found[0].abs().max()
    assert (found[0] - found[2]).abs().max() < 2e-3 * found[0].abs().max()
