"""Sharing of KV heads against a plain implementation on the matrices, and on whole models."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch

from core.cache.base import Layout
from core.cache.dynamic import Dynamic
from core.decoder.build import build
from core.decoder.plan import Computed, Plan, plan_of
from core.decoder.preparation import Preparation
from core.decoder.probe import Probe
from core.decoder.sites import softmax_over
from core.errors import BadInput
from core.heads.kv_sharing import apply
from core.heads.table import KvSharingOptions
from core.models.find import open_checkpoint
from core.technique import NoOptions
from core.weights.cast import Cast
from core.weights.table import CastOptions

pytestmark = pytest.mark.usefixtures("one_thread")
UNUSED = cast(Preparation, None)
SIZES = {
    "vocab_size": 60, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 6,
    "num_key_value_heads": 3, "max_position_embeddings": 64, "attention_bias": True, "pad_token_id": 0,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {"llama": {}, "qwen3": {"head_dim": 8}, "olmo2": {}}


@pytest.fixture(params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(request.param, **SIZES | FAMILIES[request.param]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.float().save_pretrained(tmp_path)
    return tmp_path


def opened(folder: Path) -> Plan:
    return plan_of(open_checkpoint(str(folder)))


def logits(plan: Plan) -> torch.Tensor:
    decoder = build(plan, Cast(CastOptions("float32"), plan), lambda *_: None)
    layout = Layout(tuple(layer.kv_heads for layer in plan.layers), plan.traits.head_size, 20, torch.float32)
    with torch.inference_mode():
        hidden = decoder.forward(torch.arange(3, 23), softmax_over(decoder, Dynamic(NoOptions(), layout)), Probe())
        return decoder.logits(hidden, Probe())


def test_that_a_kv_head_for_each_query_head_changes_nothing(folder: Path) -> None:
    plan = opened(folder)
    apply(KvSharingOptions(6), plan, UNUSED)
    assert [layer.kv_heads for layer in plan.layers] == [6, 6, 6]
    assert (logits(plan) - logits(opened(folder))).abs().max() < 1e-4


def test_that_as_many_heads_as_trained_change_nothing(folder: Path) -> None:
    plan = opened(folder)
    apply(KvSharingOptions(3), plan, UNUSED)
    assert torch.equal(logits(plan), logits(opened(folder)))


def test_that_layers_left_out_stay(folder: Path) -> None:
    plan = opened(folder)
    apply(KvSharingOptions(1, layers="1"), plan, UNUSED)
    assert [layer.kv_heads for layer in plan.layers] == [3, 1, 3]
    assert logits(plan).isfinite().all()


@pytest.mark.parametrize("pool", ["mean", "first"])
@pytest.mark.parametrize(("trained", "shared"), [(3, 1), (6, 3), (6, 1)])
def test_that_pooled_heads_are_the_mean_or_the_first_of_their_group(trained: int, shared: int, pool: str) -> None:
    plan = random_plan(trained)
    before = {letter: getattr(plan.layers[0], letter).dense().clone() for letter in "kv"}
    bias = {letter: plan.layers[0].biases[letter].clone() for letter in "kv"}
    apply(KvSharingOptions(shared, pool), plan, UNUSED)
    each = trained // shared
    for letter in "kv":
        for matrix, found in (
            (before[letter], getattr(plan.layers[0], letter).dense()),
            (bias[letter][:, None], plan.layers[0].biases[letter][:, None]),
        ):
            for head in range(shared):
                old = [matrix[(head * each + i) * 8 : (head * each + i + 1) * 8] for i in range(each)]
                expected = sum(old) / each if pool == "mean" else old[0]
                assert (found[head * 8 : (head + 1) * 8] - expected).abs().max() < 1e-6


def random_plan(kv_heads: int) -> Plan:
    from core.decoder.plan import GatedPlan, LayerPlan
    from core.decoder.traits import traits_of

    config = {"model_type": "llama", **SIZES, "num_key_value_heads": kv_heads, "num_hidden_layers": 1}
    kv = kv_heads * 8
    ffn = GatedPlan(matrix(64, 48), matrix(64, 48), matrix(48, 64))
    biases = {"q": torch.randn(48), "k": torch.randn(kv), "v": torch.randn(kv)}
    layer = LayerPlan(matrix(48, 48), matrix(kv, 48), matrix(kv, 48), matrix(48, 48), kv_heads, ffn, {}, biases)
    return Plan(traits_of(config), config, [layer], matrix(60, 48), matrix(60, 48), torch.ones(48))


def matrix(rows: int, columns: int) -> Computed:
    return Computed(torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows * columns)))


def test_that_a_number_that_does_not_divide_is_refused_with_those_that_do() -> None:
    with pytest.raises(BadInput, match="it can have 1, 3, 6"):
        apply(KvSharingOptions(2), random_plan(3), UNUSED)
