"""Prompts in bfloat16 and in float32 against plain torch in float32, on random decoders."""

from __future__ import annotations

from collections.abc import Collection

import pytest
import torch
from test_experts import split_decoder
from test_fused import FAMILIES, decoder_for
from test_mixtures import COUNT, mixture_decoder
from test_outside import Hidden

from core.attention.mask import FULL, Reach
from core.attention.prompt import attend_after
from core.cache.base import Layout
from core.cache.dynamic import Dynamic
from core.compiled import tiles
from core.decoder import linear
from core.decoder.fused.prompt import Prompt
from core.decoder.model import Decoder
from core.decoder.probe import Probe
from core.decoder.sites import softmax_over
from core.engine.local import LocalSession
from core.technique import NoOptions
from core.weights import packed

TOKENS = [(11 * i + 3) % 128 for i in range(610)]
PACKED = ("weights.name=rtn", "weights.bits=5", "weights.group_size=32")
BFLOAT16 = ("weights.name=cast", "weights.dtype=bfloat16")


@pytest.fixture(params=[torch.bfloat16, torch.float32], ids=["bfloat16", "float32"], autouse=True)
def close(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """As on a processor that multiplies this format fastest; how close its results are, by distance."""
    for module in (linear, packed):
        monkeypatch.setattr(module, "quick_dtype", lambda: request.param)
    return 0.03 if request.param == torch.bfloat16 else 1e-4


@pytest.fixture
def kept(close: float) -> torch.dtype:
    """What the cache keeps: a last bit of difference may turn how a number rounds to bfloat16, and then it is one of 2⁻⁸."""
    return torch.bfloat16 if close > 1e-3 else torch.float32


def logits(
    decoder: Decoder,
    quick: bool,
    sizes: tuple[int, ...],
    reach: Reach = FULL,
    probe: Probe | None = None,
    hidden: Collection[int] = (),
    kept: torch.dtype = torch.bfloat16,
) -> torch.Tensor:
    """Of the last rows of passes of these sizes. hidden: layers of which compiled passes do not know what they see."""
    traits = decoder.traits
    layout = Layout((decoder.blocks[0].attention.kv_heads,) * traits.layers, traits.head_size, 700, kept)
    prompt = Prompt.of(decoder) if quick else None
    assert (prompt is not None) == quick
    context = softmax_over(decoder, Dynamic(NoOptions(), layout), reach)
    context.mechanisms = tuple(Hidden(one) if layer in hidden else one for layer, one in enumerate(context.mechanisms))
    session = LocalSession(decoder, context, probe or Probe(), prompt=prompt)
    rows, at = [], 0
    for size in sizes:
        rows.append(session.forward(TOKENS[at : at + size])[-1])
        at += size
    return torch.stack(rows)


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("weights", [PACKED, BFLOAT16])
@pytest.mark.parametrize("family", FAMILIES)
def test_that_prompts_equal_plain_torch(family: str, weights: tuple[str, ...], close: float, kept: torch.dtype) -> None:
    decoder, sizes = decoder_for(family, *weights), (70, 80)
    close = 0.03 if weights == BFLOAT16 else close  # plain torch rounds what goes into products of bfloat16 matrices
    assert distance(logits(decoder, True, sizes, kept=kept), logits(decoder, False, sizes, kept=kept)) < close


@pytest.mark.parametrize("cached", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("hidden", [(0, 1, 2), (1,)])
def test_that_layers_that_attend_outside_equal_plain_torch(hidden: tuple[int, ...], cached: torch.dtype, close: float) -> None:
    decoder, sizes = decoder_for("qwen2", *PACKED), (70, 80)
    compiled, plain = (logits(decoder, quick, sizes, Reach(2, 30), hidden=hidden, kept=cached) for quick in (True, False))
    assert distance(compiled, plain) < (0.005 if cached == torch.bfloat16 and close < 1e-3 else close)


def test_that_blocks_of_experts_equal_plain_torch() -> None:
    """Such passes are of float32 on every processor, and so is the cache: who is chosen hangs on small differences."""
    decoder, sizes, kept = split_decoder(2, (0, 2)), (70, 80), torch.float32
    assert distance(logits(decoder, True, sizes, kept=kept), logits(decoder, False, sizes, kept=kept)) < 1e-4


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("normalise", [False, True])
def test_that_trained_mixtures_equal_plain_torch(normalise: bool, shared: bool, close: float, kept: torch.dtype) -> None:
    used = COUNT if kept == torch.bfloat16 else 2  # who is chosen of them hangs on small differences
    decoder, sizes = mixture_decoder(used, normalise, shared, (0, 2), PACKED), (70, 80)
    assert distance(logits(decoder, True, sizes, kept=kept), logits(decoder, False, sizes, kept=kept)) < close


def test_that_the_routes_of_a_prompt_equal_those_of_plain_torch() -> None:
    decoder, told = mixture_decoder(3, normalise=False, shared=True), []
    for quick in (True, False):
        probe = Probe(routing=True)
        logits(decoder, quick, (80,), probe=probe, kept=torch.float32)
        told.append(probe.take_routing())
    assert told[0].keys() == told[1].keys() == {0, 1, 2}
    for layer, (chosen, weights, count) in told[0].items():
        assert chosen.tolist() == told[1][layer][0].tolist()
        assert abs(weights.astype(float) - told[1][layer][1]).max() < 1e-3
        assert (chosen.shape, count) == ((80, 3), COUNT)


@pytest.mark.parametrize("reach", [Reach(0, 20), Reach(4, 20), Reach(0, 270), Reach(3, 200)])
def test_that_prompts_see_what_the_mask_lets_through(reach: Reach, close: float, kept: torch.dtype) -> None:
    decoder, sizes = decoder_for("llama", *PACKED), (320, 290)
    quick = logits(decoder, True, sizes, reach, kept=kept)
    assert distance(quick, logits(decoder, False, sizes, reach, kept=kept)) < close
    assert distance(quick, logits(decoder, True, sizes, kept=kept)) > 0.1


def test_that_chunks_of_a_prompt_equal_the_whole_of_it(close: float, kept: torch.dtype) -> None:
    decoder = decoder_for("llama", *PACKED)
    assert distance(logits(decoder, True, (70, 80), kept=kept)[-1], logits(decoder, True, (150,), kept=kept)[-1]) < close


@pytest.mark.skipif(not tiles.available(), reason="this processor has no matrix tiles (AMX)")
def test_that_chunks_on_tiles_come_out_the_same_to_the_last_bit(close: float) -> None:
    if close < 1e-3:
        pytest.skip("tiles are of bfloat16")
    decoder = decoder_for("llama-wide", *PACKED)
    whole = logits(decoder, True, (400,))[-1]
    for sizes in ((330, 70), (70, 98, 67, 165), (300, 100)):
        assert torch.equal(logits(decoder, True, sizes)[-1], whole)


def test_that_captured_attention_of_a_prompt_equals_plain_torch() -> None:
    decoder, seen = decoder_for("llama", *PACKED), []
    for quick in (True, False):
        probe = Probe(attention_layers=(1,))
        logits(decoder, quick, (80,), probe=probe)
        seen.append(probe.take_attention()[1][0].astype(float))
    assert abs(seen[0] - seen[1]).max() < 0.03


@pytest.mark.parametrize("past", [0, 1, 200])
def test_that_attention_over_what_was_before_and_itself_equals_the_masked_one(past: int) -> None:
    H, G, T, D = 6, 2, 90, 32
    q, k, v = (torch.randn(n, size, D).bfloat16() for n, size in ((H, T), (G, past + T), (G, past + T)))
    keys, values = (part.float().repeat_interleave(H // G, 0) for part in (k, v))
    scores = q.float() @ keys.transpose(1, 2) * 0.2
    hidden = torch.ones(T, past + T, dtype=torch.bool).triu(past + 1)
    expected = (scores.masked_fill(hidden, -torch.inf).softmax(-1) @ values).transpose(0, 1)
    assert (attend_after(q, k, v, 0.2).float() - expected).abs().max() < 0.03
