"""On the default model, numbers do not depend on how tokens are divided among passes."""

from __future__ import annotations

from pydoc_data.topics import topics

import pytest
import torch

from core.config import RunConfig
from core.decoder.probe import Probe
from core.engine.local import LocalBackend, LocalSession
from core.models.default import is_fetched

pytestmark = pytest.mark.skipif(not is_fetched(), reason="the default model is not fetched")
PROMPT, NEXT = 150, 26


@pytest.fixture(scope="module")
def backends() -> dict[str, LocalBackend]:
    return {}


@pytest.fixture(scope="module")
def ids(backends: dict[str, LocalBackend]) -> list[int]:
    return session_of(backends, "")[0].tokenizer.encode(topics["specialnames"][2000:])[: PROMPT + NEXT]


def session_of(backends: dict[str, LocalBackend], settings: str) -> tuple[LocalBackend, LocalSession]:
    """Of a model loaded once for each of the settings that change it."""
    config = RunConfig().set(["engine.device=cpu", *settings.split()])
    name = " ".join(text for text in settings.split() if text.startswith(("heads", "ffn", "weights")))
    if name not in backends:
        loaded = LocalBackend.load(config, lambda *_: None)
        assert isinstance(loaded, LocalBackend)
        backends[name] = loaded
    session = backends[name].session(config, 2 * PROMPT, Probe())
    assert isinstance(session, LocalSession)
    return backends[name], session


@pytest.mark.parametrize("settings", ["", "cache.name=quantized cache.bits=8", "heads.name=latent_kv"])
def test_that_a_long_prompt_comes_out_the_same_however_it_is_divided(
    backends: dict[str, LocalBackend], ids: list[int], settings: str
) -> None:
    found = []
    for chunk in (PROMPT, 80, 16):
        session = session_of(backends, settings)[1]
        session.adopt(ids[:PROMPT])
        parts = [session.forward(ids[first : min(PROMPT, first + chunk)]) for first in range(0, PROMPT, chunk)]
        found.append(torch.cat([parts[-1], *(session.forward([token]) for token in ids[PROMPT : PROMPT + 3])]))
    assert all(torch.equal(one, found[0]) for one in found)


@pytest.mark.parametrize(
    "settings",
    [
        "",
        "cache.name=quantized cache.bits=4",
        "attention.name=window attention.window=40",
        "attention.name=sink_window attention.sinks=3 attention.window=6",
        "attention.name=block_topk attention.blocks=1",
        "attention.name=topk attention.k=20",
        "attention.name=lsh",
        "heads.name=latent_kv",
        "ffn.name=moefy ffn.top_k=3",
        "weights.name=cast weights.dtype=bfloat16",
        "weights.name=rtn weights.bits=8",
    ],
)
def test_that_rows_verified_together_are_bit_for_bit_what_they_are_alone(
    backends: dict[str, LocalBackend], ids: list[int], settings: str
) -> None:
    alone, tokens = session_of(backends, settings)[1], ids[PROMPT:]
    alone.forward(ids[:PROMPT])
    expected = torch.cat([alone.forward([token]) for token in tokens])
    for rows in (5, 13):
        together = session_of(backends, settings)[1]
        together.forward(ids[:PROMPT])
        assert together.alike(rows)
        found = [together.forward(tokens[first : first + rows], all_logits=True) for first in range(0, len(tokens), rows)]
        assert torch.equal(torch.cat(found), expected)
