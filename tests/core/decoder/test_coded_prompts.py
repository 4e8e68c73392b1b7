"""Prompts over a quantized cache against plain torch in float32, on random decoders."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

import pytest
import torch
from test_fused import FAMILIES, decoder_for
from test_outside import Hidden

from core.attention.mask import FULL, Reach
from core.cache.base import Layout
from core.cache.quantized import Quantized
from core.cache.table import QuantizedOptions
from core.decoder import linear
from core.decoder.fused.form import prompt_inside_of
from core.decoder.fused.prompt import Prompt
from core.decoder.model import Decoder
from core.decoder.probe import Probe
from core.decoder.sites import softmax_over
from core.engine.local import LocalSession
from core.weights import packed

pytestmark = pytest.mark.usefixtures("one_thread")
TOKENS = [(11 * i + 3) % 128 for i in range(610)]
PACKED = ("weights.name=rtn", "weights.bits=5", "weights.group_size=32")
CODES = (8, 32, 24, 4)


@pytest.fixture(params=[torch.bfloat16, torch.float32], ids=["bfloat16", "float32"], autouse=True)
def dtype(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    """As on a processor that multiplies this format fastest; caches keep it too."""
    for module in (linear, packed):
        monkeypatch.setattr(module, "quick_dtype", lambda: request.param)
    return request.param


@pytest.fixture
def close(dtype: torch.dtype) -> float:
    """How close results are to plain torch, by distance: a number that differs by a rounding may be coded differently."""
    return 0.03 if dtype == torch.bfloat16 else 1e-3


@pytest.fixture(params=[True, False], ids=["", "without tiles"])
def with_tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr("core.compiled.tiles.available", lambda: False)
        monkeypatch.setattr("core.attention.tiled.available", lambda: False)


def session(
    decoder: Decoder, quick: bool, options: tuple[int, int, int, int], kept: torch.dtype, reach: Reach = FULL,
    probe: Probe | None = None, hidden: Collection[int] = (),
) -> LocalSession:  # fmt: skip
    traits = decoder.traits
    layout = Layout((decoder.blocks[0].attention.kv_heads,) * traits.layers, traits.head_size, 700, kept)
    context = softmax_over(decoder, Quantized(QuantizedOptions(*options), layout), reach)
    context.mechanisms = tuple(Hidden(one) if layer in hidden else one for layer, one in enumerate(context.mechanisms))
    return LocalSession(decoder, context, probe or Probe(), prompt=Prompt.of(decoder) if quick else None)


def logits(one: LocalSession, sizes: tuple[int, ...]) -> torch.Tensor:
    """Of all rows of passes of these sizes."""
    ends = [sum(sizes[:count]) for count in range(len(sizes) + 1)]
    return torch.cat([one.forward(TOKENS[first:last], all_logits=True) for first, last in pairwise(ends)])


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.usefixtures("with_tiles")
@pytest.mark.parametrize("family", ["llama", "llama-wide", "qwen2", "qwen3", "granite", "smollm3"])
def test_that_prompts_equal_plain_torch(family: str, dtype: torch.dtype, close: float) -> None:
    decoder, sizes = decoder_for(family, *PACKED), (70, 200, 9, 90)
    quick, plain = (logits(session(decoder, quick, CODES, dtype), sizes) for quick in (True, False))
    assert distance(quick, plain) < close


@pytest.mark.parametrize("size", [8, 12, 24, 48])
def test_that_heads_of_other_sizes_equal_plain_torch(
    size: int, dtype: torch.dtype, close: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, "other", {"head_dim": size})
    decoder = decoder_for("other", *PACKED)
    quick, plain = (logits(session(decoder, quick, CODES, dtype), (300, 100)) for quick in (True, False))
    assert distance(quick, plain) < close


@pytest.mark.usefixtures("with_tiles")
@pytest.mark.parametrize("options", [CODES, (4, 32, 24, 4), (2, 16, 8, 0), (4, 16, 9, 140), (8, 16, 150, 2)], ids=str)
def test_that_a_prompt_comes_out_the_same_in_chunks_of_any_size(options: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    decoder = decoder_for("llama-wide", *PACKED)
    whole = logits(session(decoder, True, options, dtype), (610,))
    for sizes in ((330, 280), (70, 98, 67, 375), (65,) * 9 + (25,)):
        assert distance(logits(session(decoder, True, options, dtype), sizes), whole) < 0.03


def test_that_layers_that_attend_outside_store_the_same(dtype: torch.dtype, close: float) -> None:
    decoder, sizes = decoder_for("qwen2", *PACKED), (170, 180)
    mixed, plain = (session(decoder, quick, CODES, dtype, hidden=(1,) if quick else ()) for quick in (True, False))
    assert distance(logits(mixed, sizes), logits(plain, sizes)) < close
    assert mixed.kv_bytes == plain.kv_bytes


def test_that_captured_attention_equals_plain_torch(dtype: torch.dtype) -> None:
    decoder, seen = decoder_for("llama", *PACKED), []
    for quick in (True, False):
        probe = Probe(attention_layers=(1,))
        logits(session(decoder, quick, CODES, dtype, probe=probe), (200,))
        seen.append(probe.take_attention()[1][0].astype(float))
    assert abs(seen[0] - seen[1]).max() < 0.03


def test_which_layers_are_computed_inside(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "capped", FAMILIES["gemma2"] | {"sliding_window": 700})

    def inside(family: str, reach: Reach = FULL, probe: Probe | None = None) -> list[bool]:
        one = session(decoder_for(family, *PACKED), True, CODES, dtype, reach)
        reaches, _ = prompt_inside_of(one.context, 200, probe or Probe(), dtype)
        return [reach is not None for reach in reaches]

    assert inside("llama") == [True] * 3
    assert inside("llama", probe=Probe(attention_layers=(1,))) == [True, False, True]
    assert inside("llama", Reach(0, 20)) == inside("mistral") == inside("capped") == [False] * 3
    assert not any(prompt_inside_of(session(decoder_for("llama", *PACKED), True, CODES, torch.float32).context, 200, Probe(),
                                    torch.bfloat16)[0])  # fmt: skip
