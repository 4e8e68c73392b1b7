"""Shared KV heads fitted to the trained ones: nothing is lost of heads that differ by what W_q and W_o can take over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from models_with_heads import FAMILIES, logits, opened, prepared, saved

from core.decoder.plan import Plan
from core.decoder.preparation import Preparation
from core.heads.kv_sharing import apply
from core.heads.least_squares import shared_keys, shared_values
from core.heads.table import KvSharingOptions

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")


def shared(preparation: Preparation, kv_heads: int = 1, pool: str = "least_squares", layers: str = "all") -> Plan:
    plan = opened(preparation)
    apply(KvSharingOptions(kv_heads, pool, layers=layers), plan, preparation)
    return plan


def turned_copies(model: Any) -> None:
    """Make every key head the first one with each pair turned and stretched, and every value head the first one mixed."""
    for layer in model.model.layers:
        for j in (1, 2):
            place, factors = slice(8 * j, 8 * j + 8), torch.randn(4, dtype=torch.complex64)
            for rows in (layer.self_attn.k_proj.weight, layer.self_attn.k_proj.bias):
                rows[place] = multiplied(rows[:8], factors)
            mix = torch.randn(8, 8)
            for rows in (layer.self_attn.v_proj.weight, layer.self_attn.v_proj.bias):
                rows[place] = mix @ rows[:8]


def multiplied(rows: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    pairs = torch.complex(rows[:4], rows[4:]) * factors.reshape(4, *[1] * (rows.ndim - 1))
    return torch.cat((pairs.real, pairs.imag))


def test_that_heads_which_are_turned_copies_are_joined_without_loss(tmp_path: Path) -> None:
    saved("llama", tmp_path / "model", turned_copies)
    preparation = prepared(tmp_path / "model")
    plan = shared(preparation)
    assert [layer.k.shape[0] for layer in plan.layers] == [8, 8, 8]
    assert (logits(plan) - logits(opened(preparation))).abs().max() < 1e-4
    assert (logits(shared(preparation, pool="mean")) - logits(opened(preparation))).abs().max() > 1e-2


def test_that_each_pair_of_keys_is_joined_as_well_as_one_complex_number_can() -> None:
    keys = torch.randn(400, 2, 8, generator=torch.Generator().manual_seed(0)).double()
    moment = torch.einsum("nij,nkl->ijkl", keys, keys).reshape(16, 16) / 400
    found = shared_keys(moment, torch.eye(16).double(), heads=2, rotated=4)
    back = torch.einsum("jde,ne->njd", found.outwards, torch.einsum("jde,nje->nd", found.inwards, keys))
    for pair in range(2):
        z, given = (torch.complex(x[..., pair], x[..., pair + 2]) for x in (keys, back))
        lost = (given - z).abs().square().sum().item()
        assert lost == pytest.approx(torch.linalg.svdvals(z)[-1].item() ** 2, rel=1e-6)
    rest, given = (x[..., 4:].reshape(400, 8) for x in (keys, back))  # not rotated: any matrix can
    assert (given - rest).square().sum().item() == pytest.approx(torch.linalg.svdvals(rest)[4:].square().sum().item(), rel=1e-6)


def test_that_values_are_joined_where_errors_weigh_most() -> None:
    values = torch.randn(300, 16, generator=torch.Generator().manual_seed(1)).double()
    weights = torch.diag(torch.tensor([1.0, 100.0] * 8)).double()
    found = shared_values(values.T @ values, weights, heads=2)
    joined = torch.einsum("jde,nje->nd", found.inwards, values.reshape(-1, 2, 8))
    lost = values - torch.einsum("jde,ne->njd", found.outwards, joined).reshape(-1, 16)
    expected = torch.linalg.svdvals(values @ weights.sqrt())[8:].square().sum().item()
    assert (lost @ weights.sqrt()).square().sum().item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_that_fitted_heads_change_the_model_less_than_pooled_ones(tmp_path: Path, family: str) -> None:
    saved(family, tmp_path / "model")
    preparation = prepared(tmp_path / "model")
    plain = logits(opened(preparation))
    pools = "least_squares", "mean", "first"
    lost = {pool: (logits(shared(preparation, pool=pool)) - plain).square().mean() for pool in pools}
    assert lost["least_squares"] < min(lost["mean"], lost["first"])


def test_that_layers_left_out_keep_their_heads_and_queries(tmp_path: Path) -> None:
    saved("llama", tmp_path / "model")
    preparation = prepared(tmp_path / "model")
    plan, trained = shared(preparation, layers="1"), opened(preparation)
    assert [layer.kv_heads for layer in plan.layers] == [3, 1, 3]
    assert torch.equal(plan.layers[0].q.dense(), trained.layers[0].q.dense())
    assert not torch.equal(plan.layers[1].q.dense(), trained.layers[1].q.dense())
