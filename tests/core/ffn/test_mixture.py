"""Mixtures of experts and split blocks against plain loops over tokens."""

from __future__ import annotations

from typing import cast

import pytest
import torch

from core.decoder.build import build
from core.decoder.feed_forward import Gated, Mixture, Split
from core.decoder.linear import Dense
from core.decoder.plan import Computed, ExpertsPlan, GatedPlan, LayerPlan, Plan
from core.decoder.preparation import Preparation
from core.decoder.probe import Probe
from core.decoder.traits import Experts, traits_of
from core.errors import BadInput
from core.ffn.experts import apply
from core.ffn.table import ExpertsOptions
from core.weights.cast import Cast
from core.weights.table import CastOptions

pytestmark = pytest.mark.usefixtures("one_thread")
TOKENS, WIDTH, NEURONS, EXPERTS = 11, 16, 12, 5
UNUSED = cast(Preparation, None)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def silu(x: torch.Tensor) -> torch.Tensor:
    return x / (1 + torch.exp(-x))


def expert(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """gate and up [F, C], down [C, F]."""
    return random(NEURONS, WIDTH, seed=seed), random(NEURONS, WIDTH, seed=seed + 50), random(WIDTH, NEURONS, seed=seed + 99)


def gated(seed: int) -> Gated:
    gate, up, down = expert(seed)
    return Gated(Dense(torch.cat([gate, up])), Dense(down), torch.nn.functional.silu)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("used", [1, 3, EXPERTS])
def test_that_a_mixture_is_the_weighted_sum_of_the_likeliest_experts(used: int, normalise: bool, shared: bool) -> None:
    router, gate, x = random(EXPERTS, WIDTH), random(1, WIDTH), random(TOKENS, WIDTH)
    experts = [gated(seed) for seed in range(EXPERTS)]
    extra = (gated(40), Dense(gate)) if shared else (None, None)
    found = Mixture(Dense(router), experts, used, normalise, *extra)(x, 0, Probe())
    for token, y in zip(x, found, strict=True):
        odds = torch.exp(router @ token)
        odds = odds / odds.sum()
        best = sorted(range(EXPERTS), key=lambda e: -odds[e].item())[:used]
        total = sum(odds[e] for e in best) if normalise else 1
        expected = sum(odds[e] / total * plain(e, token) for e in best)
        if shared:
            expected = expected + plain(40, token) / (1 + torch.exp(-gate[0].dot(token)))
        assert (y - expected).abs().max() < 1e-4 * max(1, expected.abs().max())


def plain(seed: int, token: torch.Tensor) -> torch.Tensor:
    gate, up, down = expert(seed)
    return down @ (silu(gate @ token) * (up @ token))


def test_that_routing_is_told_when_asked_for() -> None:
    probe = Probe(routing=True)
    block = Mixture(Dense(random(EXPERTS, WIDTH)), [gated(seed) for seed in range(EXPERTS)], 2, True)
    block(random(TOKENS, WIDTH), 3, probe)
    chosen, weights, count = probe.take_routing()[3]
    assert chosen.shape == weights.shape == (TOKENS, 2)
    assert count == EXPERTS
    assert abs(weights.sum(axis=1) - 1).max() < 1e-2


@pytest.mark.parametrize("used", [1, 2, 3])
def test_that_a_split_block_adds_up_the_neurons_of_the_chosen_groups(used: int) -> None:
    gate, up, down = expert(7)
    groups = torch.tensor([5, 0, 9, 2, 8, 4, 1, 10, 3, 11, 6, 7]).reshape(3, 4)
    gate_ups = [Dense(torch.cat([gate[group], up[group]])) for group in groups]
    router, bias, x = random(3, WIDTH), random(3), random(TOKENS, WIDTH)
    split = Split(gate_ups, groups, Dense(down), Dense(router, bias), used, torch.nn.functional.silu)
    for token, y in zip(x, split(x, 0, Probe()), strict=True):
        hidden = silu(gate @ token) * (up @ token)
        scores = router @ token + bias
        kept = sorted(range(3), key=lambda e: -scores[e].item())[:used]
        expected = sum(down[:, n] * hidden[n] for e in kept for n in groups[e].tolist())
        assert (y - expected).abs().max() < 1e-4


def moe_plan() -> Plan:
    config = {
        "model_type": "qwen3_moe", "hidden_size": WIDTH, "intermediate_size": NEURONS, "moe_intermediate_size": NEURONS,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 30,
        "num_experts": EXPERTS, "num_experts_per_tok": 2,
    }  # fmt: skip
    traits = traits_of(config)

    def layer() -> LayerPlan:
        experts = [GatedPlan(*map(Computed, expert(seed))) for seed in range(EXPERTS)]
        block = ExpertsPlan(cast(Experts, traits.experts[0]), Computed(random(EXPERTS, WIDTH)), experts)
        q, k, v, o = (Computed(random(rows, WIDTH)) for rows in (16, 8, 8, 16))
        norms = {place: torch.ones(WIDTH) for place in ("before_attention", "before_ffn")}
        return LayerPlan(q, k, v, o, 1, block, norms | {"q_norm": torch.ones(8), "k_norm": torch.ones(8)})

    embed = Computed(random(30, WIDTH))
    return Plan(traits, dict(config), [layer(), layer()], embed, embed, torch.ones(WIDTH))


def test_that_another_number_of_experts_is_used_in_the_chosen_layers() -> None:
    plan = moe_plan()
    apply(ExpertsOptions(4, "1"), plan, UNUSED)
    blocks = [block.ffn for block in build(plan, Cast(CastOptions(), plan), lambda *_: None).blocks]
    assert [block.used for block in blocks if isinstance(block, Mixture)] == [2, 4]
    assert blocks[0].active_nbytes < blocks[1].active_nbytes < blocks[1].nbytes == blocks[0].nbytes


def test_that_more_experts_than_there_are_is_refused() -> None:
    with pytest.raises(BadInput, match="the model has 5 experts"):
        apply(ExpertsOptions(6), moe_plan(), UNUSED)


def test_that_a_dense_model_has_no_experts_to_choose() -> None:
    plan = moe_plan()
    for layer in plan.layers:
        layer.ffn = GatedPlan(*map(Computed, expert(0)))
    with pytest.raises(BadInput, match="no trained experts"):
        apply(ExpertsOptions(1), plan, UNUSED)
