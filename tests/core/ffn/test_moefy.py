"""Splitting dense blocks: equal groups of what is active together, a router that knows, and a cache that may be damaged."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from core.decoder.build import build
from core.decoder.plan import Plan, SplitPlan, plan_of
from core.decoder.preparation import Preparation
from core.decoder.probe import Probe
from core.errors import BadInput
from core.ffn import division
from core.ffn.clusters import balanced_groups
from core.ffn.division import divided
from core.ffn.moefy import apply
from core.ffn.table import MoefyOptions
from core.folders import cache_folder
from core.models.find import open_checkpoint
from core.weights.cast import Cast
from core.weights.table import CastOptions

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = {
    "vocab_size": 60, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2,
    "max_position_embeddings": 64,
}  # fmt: skip


def neurons_in_turn(tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x [N, 16] and hidden [N, 24]: neuron n works when input n mod 4 is positive, and hardly otherwise."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, 16, generator=generator)
    on = (x[:, :4] > 0).float() + 0.01  # [N, 4]
    hidden = on[:, torch.arange(24) % 4] * (1 + 0.1 * torch.randn(tokens, 24, generator=generator))
    return x, hidden


def test_that_neurons_active_on_the_same_tokens_share_a_group() -> None:
    _, hidden = neurons_in_turn(300)
    groups = balanced_groups(hidden.abs().T.contiguous(), 4)
    assert [len(set(groups[first::4].tolist())) for first in range(4)] == [1, 1, 1, 1]
    assert groups.bincount().tolist() == [6, 6, 6, 6]


def test_that_the_router_ranks_groups_by_what_they_add() -> None:
    x, hidden = neurons_in_turn(600)
    down = torch.randn(16, 24, generator=torch.Generator().manual_seed(1))
    found = divided(x[:400], hidden[:400], down, 4)
    scores = x[400:] @ found.weight.T + found.bias
    added = torch.stack([(hidden[400:, one] @ down[:, one].T).norm(dim=1) for one in found.groups], dim=1)
    kept = added.gather(1, scores.topk(2).indices).sum() / added.topk(2).values.sum()
    by_chance = added.mean() * 2 * len(added) / added.topk(2).values.sum()
    assert kept > 0.93 > by_chance + 0.1


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Preparation:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SIZES, num_key_value_heads=1))
    model.float().save_pretrained(tmp_path / "model")
    monkeypatch.setenv("INFERENCE_PLAYGROUND_CACHE", str(tmp_path / "cache"))
    tokenizer: Any = SimpleNamespace(encode=lambda text, special: [1] * special + [3 + ord(one) % 50 for one in text])
    return Preparation(open_checkpoint(str(tmp_path / "model")), tokenizer, lambda *_: None)


def split(prepared: Preparation, top_k: int, layers: str = "all") -> Plan:
    plan = plan_of(prepared.checkpoint)
    apply(MoefyOptions(4, top_k, layers), plan, prepared)
    return plan


def outputs(plan: Plan, layer: int) -> torch.Tensor:
    decoder = build(plan, Cast(CastOptions("float32"), plan), lambda *_: None)
    x = torch.randn(9, 16, generator=torch.Generator().manual_seed(2))
    return decoder.blocks[layer].ffn(x, layer, Probe())


def test_that_all_experts_together_are_the_dense_block(prepared: Preparation) -> None:
    dense = outputs(plan_of(prepared.checkpoint), 1)
    assert (outputs(split(prepared, 4), 1) - dense).abs().max() < 1e-5
    assert (outputs(split(prepared, 3), 1) - dense).abs().max() > 1e-4


def test_that_layers_left_out_stay_dense(prepared: Preparation) -> None:
    plan = split(prepared, 2, "0,2")
    assert [isinstance(layer.ffn, SplitPlan) for layer in plan.layers] == [True, False, True]


def groups_of(plan: Plan) -> list[list[int]]:
    return [group.tolist() for layer in plan.layers for group in cast(SplitPlan, layer.ffn).groups]


def test_that_a_division_is_learned_once_and_a_damaged_file_is_made_anew(
    prepared: Preparation, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[int] = []
    real = division._learned
    monkeypatch.setattr(division, "_learned", lambda *given: learned.append(1) or real(*given))
    first = groups_of(split(prepared, 2))
    assert groups_of(split(prepared, 3)) == first
    assert len(learned) == 1
    (file,) = (cache_folder() / "moefy").iterdir()
    for damage in (b"", file.read_bytes()[:200], b"PK" + bytes(300)):
        file.write_bytes(damage)
        assert groups_of(split(prepared, 2)) == first
    assert len(learned) == 4


def test_that_learning_tells_how_far_it_is_and_can_be_stopped(prepared: Preparation) -> None:
    class Stopped(Exception):
        pass

    said: list[tuple[str, int, int]] = []
    split(Preparation(prepared.checkpoint, prepared.tokenizer, lambda *step: said.append(step)), 2)
    assert {stage for stage, _, _ in said} == {"ffn"}
    assert sorted({done for _, done, _ in said}) == [0, 1, 2, 3, 4]

    def stop(_stage: str, done: int, _total: int) -> None:
        if done == 2:
            raise Stopped

    with pytest.raises(Stopped):
        apply(MoefyOptions(2, 1), plan_of(prepared.checkpoint), Preparation(prepared.checkpoint, prepared.tokenizer, stop))


@pytest.mark.parametrize(
    ("options", "said"),
    [(MoefyOptions(5, 2), "does not divide the FFN width 24"), (MoefyOptions(4, 5), "more than ffn.experts=4")],
)
def test_that_numbers_that_do_not_fit_are_refused(prepared: Preparation, options: MoefyOptions, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        apply(options, plan_of(prepared.checkpoint), prepared)
