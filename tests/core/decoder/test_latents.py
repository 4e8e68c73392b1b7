"""Layers that cache latents in the compiled passes, against plain torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_fused import FAMILIES, TOKENS, passes, plan_for, session_over

from core.attention.dilated import Dilated
from core.attention.gathered import Gathered
from core.attention.mask import FULL, Reach
from core.attention.softmax import Softmax
from core.cache.base import Cache
from core.cache.off import Off
from core.cache.quantized import Quantized
from core.cache.rolling import Rolling
from core.cache.table import QuantizedOptions, RollingOptions
from core.config import RunConfig
from core.decoder import linear
from core.decoder.build import build
from core.decoder.fused.form import inside_of
from core.decoder.fused.prompt import Prompt
from core.decoder.model import Decoder
from core.decoder.plan import Computed, LatentPlan, LayerPlan
from core.decoder.probe import Probe
from core.decoder.sites import sites_of
from core.engine.local import LocalSession
from core.technique import NoOptions
from core.weights import packed

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = (5, 1, 1, 8, 3, 20, 1)
FORMATS = {
    torch.float32: ("weights.name=cast",),
    torch.bfloat16: ("weights.name=rtn", "weights.bits=8", "weights.group_size=32"),
}


def decoder_for(
    family: str, rank: int = 32, layers: tuple[int, ...] = (0, 1, 2), settings: Any = FORMATS[torch.float32]
) -> Decoder:
    """A random model of which these layers cache latents."""
    plan, random = plan_for(family), torch.Generator().manual_seed(2)
    for index in layers:
        plan.layers[index].latent = _latent(plan.layers[index], rank, random)
    config = RunConfig().set(settings)
    return build(plan, config.weights.technique.load()(config.weights.options, plan), lambda *_: None)


def _latent(layer: LayerPlan, rank: int, random: torch.Generator) -> LatentPlan:
    two, width = 2 * layer.k.shape[0], layer.k.shape[1]
    compress, expand = torch.randn(rank, width, generator=random), torch.randn(two, rank, generator=random)
    offset, mean = torch.randn(rank, generator=random), torch.randn(two, generator=random)
    return LatentPlan(Computed(compress * width**-0.5), offset, expand * rank**-0.5, mean)


def session_for(
    decoder: Decoder, compiled: bool = True, reach: Reach = FULL, dtype: torch.dtype = torch.float32, **others: Any
) -> LocalSession:
    mechanisms = [Softmax(site, reach) for site in sites_of(decoder, TOKENS, dtype)]
    return session_over(decoder, mechanisms, compiled, dtype=dtype, **others)


def inside(session: LocalSession) -> list[bool]:
    """Which layers attend in the compiled step."""
    return [seen is not None for seen in inside_of(session.context, 1, Probe())[0]]


@pytest.mark.parametrize("family", FAMILIES)
def test_that_latents_in_the_compiled_step_equal_plain_torch(family: str) -> None:
    decoder = decoder_for(family)
    compiled = session_for(decoder)
    assert inside(compiled) == [True] * 3
    assert (passes(compiled, SIZES) - passes(session_for(decoder, False), SIZES)).abs().max() < 1e-4


@pytest.mark.parametrize("rank", [16, 48, 64])
@pytest.mark.parametrize("layers", [(1,), (0, 2)])
def test_that_they_go_with_layers_that_cache_keys_and_values(rank: int, layers: tuple[int, ...]) -> None:
    decoder = decoder_for("qwen3", rank, layers)
    compiled, plain = (passes(session_for(decoder, each), SIZES) for each in (True, False))
    assert (compiled - plain).abs().max() < 1e-4


@pytest.mark.parametrize("reach", [FULL, Reach(0, 140), Reach(3, 100), Reach(135, 20)])
def test_that_latents_are_seen_in_many_chunks(reach: Reach) -> None:
    decoder, sizes = decoder_for("llama"), (60, 60, 50, 1, 1, 20, 5)
    compiled, plain = (passes(session_for(decoder, each, reach), sizes) for each in (True, False))
    assert (compiled - plain).abs().max() < 1e-4


@pytest.mark.parametrize("family", ["llama", "llama-wide", "qwen3"])
def test_that_latents_of_sixteen_bits_equal_plain_torch(family: str) -> None:
    """Plain torch rounds keys and values to bfloat16 twice."""
    decoder, sizes = decoder_for(family, settings=FORMATS[torch.bfloat16]), (60, 60, 50, 1, 8)
    compiled, plain = (passes(session_for(decoder, each, dtype=torch.bfloat16), sizes) for each in (True, False))
    assert (compiled - plain).norm() < 0.01 * plain.norm()


@pytest.mark.parametrize("reach", [FULL, Reach(0, 6), Reach(140, 9)])
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("threads", [1, 2])
def test_that_a_row_comes_out_the_same_bit_for_bit_whatever_its_company(threads: int, dtype: torch.dtype, reach: Reach) -> None:
    torch.set_num_threads(threads)
    decoder = decoder_for("llama-wide", settings=FORMATS[dtype])
    tokens = [(5 * i) % 128 for i in range(155)]
    alone, together = (session_for(decoder, True, reach, dtype) for _ in range(2))
    one_by_one = torch.cat([alone.forward([token], all_logits=True) for token in tokens])
    parts = [together.forward(tokens[first:last], all_logits=True) for first, last in ((0, 64), (64, 127), (127, 155))]
    assert torch.equal(one_by_one, torch.cat(parts))


def test_that_rows_taken_back_leave_nothing_behind() -> None:
    decoder = decoder_for("llama")
    session, fresh = session_for(decoder), session_for(decoder)
    for each in (session, fresh):
        passes(each, (40, 20))
    session.forward([9, 8, 7, 6])
    session.trim(60)
    assert torch.equal(session.forward([1, 2, 3], all_logits=True), fresh.forward([1, 2, 3], all_logits=True))


def test_that_what_is_seen_of_latents_is_captured() -> None:
    decoder, seen = decoder_for("llama", layers=(0,)), []
    for compiled in (True, False):
        probe = Probe(attention_layers=(0, 2))
        session = session_for(decoder, compiled, probe=probe)
        passes(session, (60, 60, 20))
        session.forward([3, 4])
        seen.append(probe.take_attention())
    for layer in (0, 2):
        (weights, at, _), (expected, expected_at, _) = seen[0][layer], seen[1][layer]
        assert at.tolist() == expected_at.tolist()
        assert abs(weights.astype(float) - expected.astype(float)).max() < 1e-3


@pytest.mark.parametrize(
    ("cache", "options"),
    [
        (Rolling, RollingOptions(window=7)),
        (Off, NoOptions()),
        (Quantized, QuantizedOptions(bits=8, group_size=8, residual=8, sinks=1)),
    ],
)
@pytest.mark.parametrize("layers", [(0, 1, 2), (1,)])
def test_that_latents_whose_slots_are_not_positions_are_left_to_torch(
    layers: tuple[int, ...], cache: type[Cache], options: object
) -> None:
    decoder = decoder_for("llama", layers=layers)
    compiled, plain = (session_for(decoder, each, cache=cache, options=options) for each in (True, False))
    assert (passes(compiled, SIZES) - passes(plain, SIZES)).abs().max() < 1e-4
    assert not any(inside(compiled)[layer] for layer in layers)


def test_that_sparse_patterns_over_latents_are_left_to_torch() -> None:
    decoder, sizes = decoder_for("llama", layers=(1,)), (5, 1, 20, 1)
    sites = sites_of(decoder, TOKENS, torch.float32)
    compiled, plain = (session_over(decoder, [Gathered(site, Dilated(4, 3)) for site in sites], each) for each in (True, False))
    assert (passes(compiled, sizes) - passes(plain, sizes)).abs().max() < 1e-4
    assert inside(compiled) == [True, False, True]


def test_that_no_more_is_cached_than_latents() -> None:
    decoder = decoder_for("llama", 32, (0, 1))
    session = session_for(decoder)
    passes(session, SIZES)
    assert session.kv_read == sum(SIZES) * 4 * (32 + 32 + 2 * 2 * 16)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layers", [(0, 1, 2), (1,)])
@pytest.mark.parametrize("quick", [torch.bfloat16, torch.float32])
def test_that_prompts_through_latents_equal_plain_torch(
    family: str, layers: tuple[int, ...], quick: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (linear, packed):
        monkeypatch.setattr(module, "quick_dtype", lambda: quick)
    decoder = decoder_for(family, layers=layers, settings=FORMATS[torch.bfloat16])
    prompt = Prompt.of(decoder)
    assert prompt is not None
    assert prompt.dtype == quick
    found = []
    for each in (prompt, None):
        session = session_for(decoder, False, dtype=quick)
        session.prompt = each
        found.append(passes(session, (70, 80)))
    assert (found[0] - found[1]).norm() < (0.03 if quick == torch.bfloat16 else 0.01) * found[1].norm()


def test_that_prompts_leave_latents_in_other_slots_to_torch() -> None:
    decoder, found = decoder_for("llama"), []
    for each in (Prompt.of(decoder), None):
        session = session_for(decoder, False, cache=Rolling, options=RollingOptions(window=30))
        session.prompt = each
        found.append(passes(session, (70, 80)))
    assert (found[0] - found[1]).abs().max() < 1e-4
