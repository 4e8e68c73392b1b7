"""Latent caches against transformers' model with projected keys and values, through every way into a cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from models_with_heads import FAMILIES, SIZES, TOKENS, built, cache_for, logits, opened, prepared, saved

from core.attention.mask import Reach
from core.cache.off import Off
from core.cache.quantized import Quantized
from core.cache.rolling import Rolling
from core.cache.table import QuantizedOptions, RollingOptions
from core.calibration import calibration_tokens
from core.decoder.plan import Plan
from core.decoder.preparation import Preparation
from core.errors import BadInput
from core.heads import moments
from core.heads.latent_kv import apply
from core.heads.table import LatentKvOptions

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")
FULL_RANK, RANK = 48, 21
CHUNKS = {"prefill": [30], "chunked": [11, 11, 8], "decode": [20, *[1] * 10]}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Preparation, Any]:
    model = saved(request.param, tmp_path / "model")
    return prepared(tmp_path / "model"), model


@pytest.fixture
def preparation(tmp_path: Path) -> Preparation:
    saved("llama", tmp_path / "model")
    return prepared(tmp_path / "model")


def with_latent(preparation: Preparation, rank: int, layers: str = "all") -> Plan:
    plan = opened(preparation)
    apply(LatentKvOptions(rank, layers), plan, preparation)
    return plan


def test_that_a_latent_of_full_rank_changes_nothing(family: tuple[Preparation, Any]) -> None:
    preparation, _ = family
    assert (logits(with_latent(preparation, FULL_RANK)) - logits(opened(preparation))).abs().max() < 1e-4


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_that_a_latent_gives_what_projected_keys_and_values_give(family: tuple[Preparation, Any], chunks: list[int]) -> None:
    preparation, model = family
    expected = plainly_projected(model, calibration_tokens(preparation.tokenizer, 4 * 64))
    found = logits(with_latent(preparation, RANK), chunks)
    assert (found - expected).abs().max() < 1e-4
    assert (found - logits(opened(preparation))).abs().max() > 1e-3


def plainly_projected(model: Any, text: list[int]) -> torch.Tensor:
    """Logits of transformers' model whose keys and values are replaced by their projections onto weighed principal axes."""
    layers = [layer.self_attn for layer in model.model.layers]
    seen: list[list[torch.Tensor]] = [[] for _ in layers]
    watchers = [
        layer.q_proj.register_forward_pre_hook(lambda _, x, one=one: one.append(x[0][0])) for layer, one in zip(layers, seen)
    ]
    with torch.no_grad():
        for row in torch.tensor(text).view(4, 64):
            model(row[None])
        for watcher in watchers:
            watcher.remove()
        for layer, one in zip(layers, seen):
            project = projection(layer, torch.cat(one))
            layer.k_proj.register_forward_hook(lambda _, x, __, f=project, own=layer: f(keys_values(own, x[0]))[..., :24])
            layer.v_proj.register_forward_hook(lambda _, x, __, f=project, own=layer: f(keys_values(own, x[0]))[..., 24:])
        found: torch.Tensor = model(TOKENS[None]).logits[0]
    return found


def keys_values(layer: Any, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.nn.functional.linear(x, one.weight, one.bias) for one in (layer.k_proj, layer.v_proj)], dim=-1)


def projection(layer: Any, x: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """What leaves of keys and values what matters most: x [N, C] are the layer's inputs."""
    y = keys_values(layer, x).double()
    mean, root = y.mean(dim=0), weights(layer, x, y)
    scaled = (y - mean) @ root
    axes = torch.linalg.svd(scaled, full_matrices=False).Vh[:RANK]
    kept = root @ axes.T @ axes @ root.inverse()
    return lambda y: ((y.double() - mean) @ kept + mean).float()


def weights(layer: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Root [48, 48] of how an error of keys and values counts, head by head and distance by distance."""
    q = torch.nn.functional.linear(x, layer.q_proj.weight, layer.q_proj.bias)
    normed = hasattr(layer, "q_norm")
    q = layer.q_norm(q.view(-1, 6, 8)) if normed and layer.q_norm.weight.numel() == 8 else layer.q_norm(q) if normed else q
    q, out = q.reshape(-1, 6, 8).double(), layer.o_proj.weight.double()
    gain = (
        layer.k_norm.weight.double().expand(24)
        if normed and layer.k_norm.weight.numel() == 24
        else (layer.k_norm.weight.double().repeat(3) if normed else torch.ones(24).double())
    )
    whole = torch.zeros(48, 48, dtype=torch.float64)
    frequencies = 10_000.0 ** -(torch.arange(4).double() / 4)
    for head in range(6):
        keys, values = (slice(start + head // 2 * 8, start + head // 2 * 8 + 8) for start in (0, 24))
        for distance in (0, *(2**i for i in range(10))):
            a, b = q[:, head, :4], q[:, head, 4:]
            cos, sin = (distance * frequencies).cos(), (distance * frequencies).sin()
            turned = torch.cat((a * cos - b * sin, b * cos + a * sin), dim=1) * gain[keys]
            whole[keys, keys] += turned.T @ turned / len(q) / 11
        own = out[:, head * 8 : head * 8 + 8]
        whole[values, values] += own.T @ own
    for part in (slice(0, 24), slice(24, 48)):
        whole[part, part] += 1e-4 * whole[part, part].diagonal().mean() * torch.eye(24)
        centred = y[:, part] - y[:, part].mean(dim=0)
        whole[part, part] /= ((centred @ whole[part, part]) * centred).sum() / len(y)
    sizes, vectors = torch.linalg.eigh(whole)
    return vectors * sizes.sqrt() @ vectors.T


def test_that_latents_roll_like_keys_and_values(preparation: Preparation) -> None:
    plan = with_latent(preparation, RANK)
    rolling = cache_for(built(plan), Rolling, RollingOptions(9))
    assert (logits(plan, CHUNKS["decode"], rolling) - logits(plan, reach=Reach(0, 9))).abs().max() < 1e-4


def test_that_latents_are_quantized_like_keys_and_values(preparation: Preparation) -> None:
    plan = with_latent(preparation, 24)
    quantized = cache_for(built(plan), Quantized, QuantizedOptions(bits=8, group_size=4, residual=4, sinks=1))
    assert 0 < (logits(plan, CHUNKS["decode"], quantized) - logits(plan)).abs().max() < 0.2


def test_that_without_a_cache_a_latent_gives_the_same(preparation: Preparation) -> None:
    plan = with_latent(preparation, RANK)
    assert (logits(plan, cache=cache_for(built(plan), Off)) - logits(plan)).abs().max() < 1e-4


def test_that_the_cache_holds_no_more_than_the_latents(preparation: Preparation) -> None:
    plan = with_latent(preparation, RANK, "1,2")
    cache = cache_for(built(plan), Rolling, RollingOptions(9))
    assert cache.layout.sizes == ((8, 8), (11, 10), (11, 10))
    assert cache.nbytes == 9 * 4 * (FULL_RANK + RANK + RANK)


def test_that_layers_left_out_keep_keys_and_values(preparation: Preparation) -> None:
    plan = with_latent(preparation, RANK, "1")
    assert [layer.latent is None for layer in plan.layers] == [True, False, True]
    assert (logits(plan) - logits(opened(preparation))).abs().max() > 1e-4


def test_that_a_model_is_watched_once_for_all_ranks(preparation: Preparation, monkeypatch: pytest.MonkeyPatch) -> None:
    with_latent(preparation, RANK)
    monkeypatch.setattr(moments, "_learned", None)
    with_latent(preparation, FULL_RANK)


def test_that_a_rank_beyond_keys_and_values_is_refused(preparation: Preparation) -> None:
    with pytest.raises(BadInput, match=f"rank=49 is more than the {2 * SIZES['num_key_value_heads'] * 8} numbers"):
        with_latent(preparation, 49)
