"""Trained mixtures of experts in compiled passes, against plain torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from parity_models import CASES, Case, save, tokens
from test_experts import feeds_outside
from test_fused import passes, plan_for, session_for
from test_parity import decoder_of

from core.config import RunConfig
from core.decoder.build import build
from core.decoder.feed_forward import Mixture
from core.decoder.fused.prompt import Prompt
from core.decoder.linear import Dense
from core.decoder.model import Decoder
from core.decoder.plan import Computed, ExpertsPlan, GatedPlan
from core.decoder.probe import Probe
from core.decoder.traits import Experts

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = (5, 1, 1, 20, 3, 1)
COUNT, WIDTH, NEURONS, SHARED = 5, 96, 64, 224
FORMATS = {
    "float32": ("weights.name=cast",),
    "bfloat16": ("weights.name=cast", "weights.dtype=bfloat16"),
    "8 bits": ("weights.name=rtn", "weights.bits=8", "weights.group_size=32"),
    "4 bits": ("weights.name=rtn", "weights.bits=4", "weights.group_size=32"),
}
SIZED: dict[str, dict[str, Any]] = {  # to whole vectors
    "mixtral": {"vocab_size": 112, "head_dim": 16},
    "qwen2_moe": {"vocab_size": 112},
    "qwen2_moe-normalised": {"vocab_size": 112},
    "qwen3_moe": {"vocab_size": 112, "head_dim": 16},
    "qwen3_moe-step": {"vocab_size": 112, "head_dim": 16},
}


def mixture_decoder(
    used: int = 2,
    normalise: bool = True,
    shared: bool = False,
    layers: tuple[int, ...] = (0, 1, 2),
    settings: tuple[str, ...] = FORMATS["float32"],
    neurons: int = NEURONS,
) -> Decoder:
    """Mixtures in place of the dense blocks of `layers`, whose width is another."""
    plan, random = plan_for("llama"), torch.Generator().manual_seed(3)

    def matrix(rows: int, columns: int) -> Computed:
        return Computed(torch.randn(rows, columns, generator=random) * columns**-0.5)

    def gated(width: int) -> GatedPlan:
        return GatedPlan(matrix(width, WIDTH), matrix(width, WIDTH), matrix(WIDTH, width))

    for layer in layers:
        traits = Experts(COUNT, used, neurons, normalise, SHARED if shared else 0)
        extra = (gated(SHARED), matrix(1, WIDTH)) if shared else (None, None)
        plan.layers[layer].ffn = ExpertsPlan(traits, matrix(COUNT, WIDTH), [gated(neurons) for _ in range(COUNT)], *extra)
    config = RunConfig().set(list(settings))
    return build(plan, config.weights.technique.load()(config.weights.options, plan), lambda *_: None)


def differ(decoder: Decoder) -> float:
    compiled, plain = (passes(session_for(decoder, inside), SIZES) for inside in (True, False))
    return float((compiled - plain).abs().max())


def widen(decoder: Decoder) -> None:
    """The same numbers in float32."""
    linears = [linear for block in decoder.blocks for linear in (block.attention.qkv, block.attention.out)]
    members = [one for block in decoder.blocks if isinstance(block.ffn, Mixture) for one in block.ffn.members]
    for linear in [decoder.head, *linears, *(each for one in members for each in (one.gate_up, one.down))]:
        assert isinstance(linear, Dense)
        linear.weight = linear.weight.float()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("used", [1, 2, COUNT])
def test_that_mixtures_in_the_compiled_step_equal_plain_torch(used: int, normalise: bool, shared: bool) -> None:
    decoder = mixture_decoder(used, normalise, shared)
    assert not any(feeds_outside(decoder))
    assert differ(decoder) < 1e-4


@pytest.mark.parametrize("form", FORMATS)
def test_that_they_take_weights_of_every_format(form: str) -> None:
    decoder, other = (mixture_decoder(shared=True, settings=FORMATS[form]) for _ in range(2))
    assert not any(feeds_outside(decoder))
    if form == "bfloat16":
        widen(other)  # else torch rounds what goes into products, too
    compiled, plain = passes(session_for(decoder, True), SIZES), passes(session_for(other, False), SIZES)
    assert (compiled - plain).abs().max() < 5e-4


def test_that_layers_may_be_dense_or_use_another_number_of_experts() -> None:
    decoder = mixture_decoder(2, layers=(0, 2))
    decoder.blocks[2].ffn = replace(decoder.blocks[2].ffn, used=4)
    assert not any(feeds_outside(decoder))
    assert differ(decoder) < 1e-4


def test_that_experts_that_fill_no_whole_vectors_are_left_to_torch() -> None:
    decoder = mixture_decoder(layers=(1,), neurons=20)
    assert feeds_outside(decoder) == [False, True, False]
    assert differ(decoder) < 1e-4


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("form", FORMATS)
def test_that_a_row_comes_out_the_same_bit_for_bit_whatever_its_company(form: str, threads: int) -> None:
    torch.set_num_threads(threads)
    decoder, tokens = mixture_decoder(shared=True, settings=FORMATS[form]), [(5 * i) % 128 for i in range(90)]
    alone, together = session_for(decoder, True), session_for(decoder, True)
    one_by_one = torch.cat([alone.forward([token], all_logits=True) for token in tokens])
    parts = [together.forward(tokens[first:last], all_logits=True) for first, last in ((0, 2), (2, 13), (13, 77), (77, 90))]
    assert torch.equal(one_by_one, torch.cat(parts))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("normalise", [False, True])
def test_that_experts_and_their_weights_are_told_when_asked_for(normalise: bool, shared: bool) -> None:
    decoder, told = mixture_decoder(3, normalise, shared, (0, 2)), []
    for compiled in (True, False):
        probe = Probe(routing=True)
        session_for(decoder, compiled, probe=probe).forward([3, 9, 4], all_logits=True)
        told.append(probe.take_routing())
    assert told[0].keys() == told[1].keys() == {0, 2}
    for layer, (chosen, weights, count) in told[0].items():
        assert chosen.tolist() == told[1][layer][0].tolist()
        assert abs(weights.astype(float) - told[1][layer][1]).max() < 1e-3
        assert (abs(weights.sum(axis=1) - 1) < 1e-2).all() == normalise
        assert (weights.shape, weights.dtype, count) == ((3, 3), "float16", COUNT)


@pytest.mark.parametrize("case", [case for case in CASES if case.name in SIZED], ids=lambda case: case.name)
def test_that_prompts_and_steps_equal_transformers(case: Case, tmp_path: Path) -> None:
    model = save(replace(case, settings={**case.settings, **SIZED[case.name]}), tmp_path)
    read, decoder = tokens(100), decoder_of(tmp_path)
    assert not any(feeds_outside(decoder))
    with torch.no_grad():
        expected = model(read[None]).logits[0]
    session = session_for(decoder, True)
    session.prompt = Prompt.of(decoder)
    assert session.prompt is not None
    found = [session.forward(part.tolist(), all_logits=True) for part in read.split([70, 9, 20, 1])]
    assert (torch.cat(found) - expected).abs().max() < 1e-4
