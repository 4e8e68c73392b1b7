"""The compiled step over blocks split into experts, against plain torch."""

from __future__ import annotations

import pytest
import torch
from test_fused import passes, plan_for, session_for

from core.config import RunConfig
from core.decoder.build import build
from core.decoder.fused.runner import Fused
from core.decoder.model import Decoder
from core.decoder.plan import GatedPlan, SplitPlan
from core.decoder.probe import Probe

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = (5, 1, 1, 20, 3, 1)


def split_decoder(used: int, layers: tuple[int, ...] = (0, 1, 2), experts: int = 4, *settings: str) -> Decoder:
    """Dense blocks of `layers` divided into experts."""
    plan, random = plan_for("llama"), torch.Generator().manual_seed(3)
    for layer in layers:
        dense = plan.layers[layer].ffn
        assert isinstance(dense, GatedPlan)
        groups = tuple(torch.randperm(160, generator=random).view(experts, -1))
        router, bias = torch.randn(experts, 96, generator=random), torch.randn(experts, generator=random)
        plan.layers[layer].ffn = SplitPlan(dense, groups, router, bias, used)
    config = RunConfig().set(list(settings or ["weights.name=cast"]))
    return build(plan, config.weights.technique.load()(config.weights.options, plan), lambda *_: None)


def feeds_outside(decoder: Decoder) -> list[bool]:
    step = Fused.of(decoder)
    assert step is not None
    return [bool(outside) for outside in step.table.layers["feeds_outside"]]


@pytest.mark.parametrize("layers", [(0, 1, 2), (2,)])
@pytest.mark.parametrize("used", [1, 3, 4])
def test_that_experts_in_the_compiled_step_equal_plain_torch(used: int, layers: tuple[int, ...]) -> None:
    decoder = split_decoder(used, layers)
    assert not any(feeds_outside(decoder))
    compiled, plain = (passes(session_for(decoder, inside), SIZES) for inside in (True, False))
    assert (compiled - plain).abs().max() < 1e-4


def test_that_experts_that_fill_no_whole_vectors_are_left_to_torch() -> None:
    decoder = split_decoder(5, (1,), 16)
    assert feeds_outside(decoder) == [False, True, False]
    compiled, plain = (passes(session_for(decoder, inside), SIZES) for inside in (True, False))
    assert (compiled - plain).abs().max() < 1e-4


@pytest.mark.parametrize("threads", [1, 2])
def test_that_a_row_comes_out_the_same_bit_for_bit_whatever_its_company(threads: int) -> None:
    torch.set_num_threads(threads)
    decoder, tokens = split_decoder(2, (0, 1, 2), 4, "weights.name=rtn", "weights.group_size=32"), [5 * i for i in range(12)]
    alone, together = session_for(decoder, True), session_for(decoder, True)
    one_by_one = torch.cat([alone.forward([token], all_logits=True) for token in tokens])
    assert torch.equal(one_by_one, together.forward(tokens, all_logits=True))


def test_that_the_chosen_experts_are_told_when_asked_for() -> None:
    decoder, told = split_decoder(2, (0, 2)), []
    for compiled in (True, False):
        probe = Probe(routing=True)
        session = session_for(decoder, compiled, probe=probe)
        session.forward([3, 9, 4], all_logits=True)
        told.append(probe.take_routing())
    assert told[0].keys() == told[1].keys() == {0, 2}
    for layer, (chosen, weights, count) in told[0].items():
        assert chosen.tolist() == told[1][layer][0].tolist()
        assert weights.tolist() == told[1][layer][1].tolist() == [[1, 1]] * 3
        assert count == 4
