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
from core.cache.off import Off
from core.cache.quantized import Quantized
from core.cache.rolling import Rolling
from core.cache.table import QuantizedOptions, RollingOptions
from core.compiled import tiles
from core.config import RunConfig
from core.decoder.build import build
from core.decoder.fused.form import inside_of
from core.decoder.fused.prompt import Prompt
from core.decoder.model import Decoder
from core.decoder.plan import Computed, LatentPlan, LayerPlan
from core.decoder.probe import Probe
from core.decoder.sites import sites_of
from core.engine.local import LocalSession

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = (5, 1, 1, 8, 3, 20, 1)
FORMATS = {
    "float32": ("weights.name=cast",),
    "bfloat16": ("weights.name=rtn", "weights.bits=8", "weights.group_size=32"),
}


def decoder_for(family: str, rank: int = 32, layers: tuple[int, ...] = (0, 1, 2), settings: Any = FORMATS["float32"]) -> Decoder:
    """A random model of which these layers cache latents."""
    plan, random = plan_for(family), torch.Generator().manual_seed(2)
    for index in layers:
        plan.layers[index].latent = _latent(plan.layers[index], rank, random)
    config = RunConfig().set(settings)
    return build(plan, config.weights.technique.load()(config.weights.options, plan), lambda *_: None)


def _latent(layer: LayerPlan, rank: int, random: torch.Generator) -> LatentPlan:
    (heads, width), two = layer.k.shape, 2 * layer.k.shape[0]
    del heads
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
    decoder, sizes = decoder_for(family, settings=FORMATS["bfloat16"]), (60, 60, 50, 1, 8)
    compiled, plain = (passes(session_for(decoder, each, dtype=torch.bfloat16), sizes) for each in (True, False))
    scale = plain.abs().max()
    print(family, (compiled - plain).abs().max() / scale)
    assert (compiled - plain).abs().max() < 0.02 * scale


@pytest.mark.parametrize("reach", [FULL, Reach(3, 6), Reach(140, 9)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("threads", [1, 2])
def test_that_a_row_comes_out_the_same_bit_for_bit_whatever_its_company(threads: int, dtype: torch.dtype, reach: Reach) -> None:
    torch.set_num_threads(threads)
    decoder = decoder_for("llama-wide", settings=FORMATS["bfloat16" if dtype == torch.bfloat16 else "float32"])
    tokens = [(5 * i) % 128 for i in range(155)]
    alone, together = (session_for(decoder, True, reach, dtype) for _ in range(2))
    one_by_one = torch.cat([alone.forward([token], all_logits=True) for token in tokens])
    parts = [together.forward(tokens[first:last], all_logits=True) for first, last in ((0, 64), (64, 127), (127, 155))]
    assert torch.equal(one_by_one, torch.cat(parts))
