"""What is noted of a model at work, against transformers' own queries, values and attention weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from models_with_heads import prepared, saved

from core.calibration import calibration_tokens
from core.decoder.preparation import Preparation
from core.heads.moments import moments

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_that_moments_are_those_of_transformers_model(tmp_path: Path, family: str) -> None:
    model = saved(family, tmp_path / "model")
    preparation = prepared(tmp_path / "model")
    seen = moments(preparation, range(3))
    for layer, (keys_values, mixed) in enumerate(plainly(model, preparation)):
        centred = keys_values - keys_values.mean(dim=0)
        assert (seen[layer].mean - keys_values.mean(dim=0)).abs().max() < 1e-4
        assert (seen[layer].covariance - centred.T @ centred / len(centred)).abs().max() < 1e-3
        assert (seen[layer].mixed - mixed.T @ mixed / len(keys_values)).abs().max() < 1e-3


def plainly(model: Any, preparation: Preparation) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Of each layer, keys and values [N, 48] float64, and all values as each query head mixes them [6 · N, 24]."""
    model.set_attn_implementation("eager")
    given: list[list[torch.Tensor]] = [[] for _ in range(6)]
    for place, layer in enumerate(model.model.layers):
        for part, name in enumerate(("k_proj", "v_proj")):
            own = given[2 * place + part]
            getattr(layer.self_attn, name).register_forward_hook(lambda _, __, y, own=own: own.append(y[0].double()))
    texts = torch.tensor(calibration_tokens(preparation.tokenizer, 4 * 64)).view(4, 64)
    with torch.no_grad():
        weights = [model(text[None], output_attentions=True).attentions for text in texts]  # [texts][layers][1, H, T, T]
    found = []
    for place in range(3):
        keys, values = given[2 * place], given[2 * place + 1]
        mixed = [(one[place][0].double() @ v).reshape(-1, 24) for one, v in zip(weights, values, strict=True)]
        found.append((torch.cat((torch.cat(keys), torch.cat(values)), dim=1), torch.cat(mixed)))
    return found


def test_that_learning_tells_how_far_it_is_and_can_be_stopped(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    saved("llama", tmp_path / "model")
    preparation = prepared(tmp_path / "model")
    said: list[tuple[str, int, int]] = []
    moments(Preparation(preparation.checkpoint, preparation.tokenizer, lambda *step: said.append(step)), range(3))
    assert {stage for stage, _, _ in said} == {"heads"}
    assert sorted({done for _, done, _ in said}) == [0, 1, 2, 3, 4, 5]

    def stop(_stage: str, done: int, _total: int) -> None:
        if done == 2:
            raise Stopped

    (kept,) = (tmp_path / "cache" / "heads").iterdir()
    kept.unlink()
    with pytest.raises(Stopped):
        moments(Preparation(preparation.checkpoint, preparation.tokenizer, stop), range(3))
