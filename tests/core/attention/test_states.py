"""What attention techniques say that they will hold, against what they then hold."""

from __future__ import annotations

import pytest
import torch
from attending import HEADS, KV_HEADS, SIZE, context_of, draws, site

from core.attention.states import keeps_state, state_bytes
from core.config import RunConfig
from core.decoder.probe import Probe
from core.models.info import ModelInfo

pytestmark = pytest.mark.usefixtures("one_thread")
TOKENS = 400
INFO = ModelInfo("x", "/x", "gguf", "llama", "local", 1, HEADS * SIZE, HEADS, KV_HEADS, SIZE, 8, 8, TOKENS, 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "technique",
    [
        "attention.name=linear_elu attention.window=16",
        "attention.name=performer attention.features=20 attention.sinks=0",
        "attention.name=linformer attention.block=16 attention.rank=4",
        "attention.name=landmark attention.segment=8",
        "attention.name=landmark attention.summary=mean attention.local=1",
    ],
)
def test_that_a_state_takes_what_was_said(technique: str, dtype: torch.dtype) -> None:
    choice = RunConfig().set(technique.split()).attention
    context = context_of(technique, site(tokens=TOKENS, dtype=dtype))
    assert keeps_state(choice)
    assert not context.mechanisms[0].stores
    for part in zip(*(part.split([1, 15, 284, *[1] * 100]) for part in draws(TOKENS)), strict=True):
        context.attend(0, *part, context.rows(len(part[0]), Probe()))
        context.advance(len(part[0]))
        expected = state_bytes(choice, INFO, KV_HEADS, dtype.itemsize, context.length)
        assert context.mechanisms[0].nbytes == expected


def test_that_softmax_attention_leaves_its_keys_to_the_cache() -> None:
    choice = RunConfig().attention
    assert not keeps_state(choice)
    assert state_bytes(choice, INFO, KV_HEADS, 2, TOKENS) == 0
