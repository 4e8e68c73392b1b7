"""Attention by trained feature maps: against a plain implementation, and from files that are sound or not."""

from __future__ import annotations

import json
from dataclasses import replace
from math import exp
from pathlib import Path

import pytest
import torch
from attending import CHUNKS, HEADS, KV_HEADS, SCALE, SIZE, TOKENS, attended, context_of, draws, site

from core.attention.linear_learned import LearnedFeatures, first_features
from core.attention.mechanism import Site
from core.attention.states import state_bytes
from core.config import RunConfig
from core.distill import adapter_file
from core.errors import BadInput
from core.models.adapters import adapter_name, adapter_of, features_of
from core.models.default import is_fetched
from core.models.find import describe
from core.models.info import ModelInfo

pytestmark = pytest.mark.usefixtures("one_thread")
SHARED, FEATURES, WINDOW, SINKS = HEADS // KV_HEADS, 12, 5, 2


@pytest.fixture
def info(tmp_path: Path) -> ModelInfo:
    """A model of which only the file's content matters."""
    (tmp_path / "model.gguf").write_bytes(bytes(range(256)))
    path = str(tmp_path / "model.gguf")
    return ModelInfo("tiny", path, "gguf", "llama", "local", 1, HEADS * SIZE, HEADS, KV_HEADS, SIZE, 8, 8, TOKENS, 8)


@pytest.fixture
def where(info: ModelInfo) -> Site:
    return replace(site(), info=info)


def maps() -> LearnedFeatures:
    generator = torch.Generator().manual_seed(3)
    shapes = (HEADS, SIZE, FEATURES // 2), (HEADS, FEATURES), (KV_HEADS, SIZE, FEATURES // 2), (KV_HEADS, FEATURES)
    return LearnedFeatures(*(torch.randn(shape, generator=generator) * 0.4 for shape in shapes))


def written(features: LearnedFeatures, folder: Path) -> Path:
    adapter_file.write(features.named(0), {"steps": 3}, folder / "maps.safetensors")
    return folder / "maps.safetensors"


def plainly(features: LearnedFeatures) -> torch.Tensor:
    """y [T, H, D], one query and one key at a time."""
    q, k, v = draws()
    y = torch.zeros_like(q)
    for head in range(HEADS):
        group = head // SHARED
        for query in range(TOKENS):
            weights = []
            for key in range(query + 1):
                a, b = q[query, head] @ features.query_maps[head], k[key, group] @ features.key_maps[group]
                of_query = torch.exp(torch.cat((a, -a)) + features.query_biases[head])
                of_key = torch.exp(torch.cat((b, -b)) + features.key_biases[group])
                exact = query - key < WINDOW or key < SINKS
                weights.append(exp(float(q[query, head] @ k[key, group]) * SCALE) if exact else float(of_query @ of_key))
            shares = torch.tensor(weights) / sum(weights)
            y[query, head] = shares @ v[: query + 1, group]
    return y


def settings(file: Path) -> str:
    return f"attention.name=linear_learned attention.window={WINDOW} attention.sinks={SINKS} attention.adapter={file}"


def test_that_trained_maps_weigh_keys_as_they_say(where: Site, tmp_path: Path) -> None:
    file, expected = written(maps(), tmp_path), plainly(maps())
    for chunks in CHUNKS.values():
        assert (attended(context_of(settings(file), where), chunks) - expected).abs().max() < 1e-4


def test_that_a_state_takes_what_was_said(where: Site, info: ModelInfo, tmp_path: Path) -> None:
    text = settings(written(maps(), tmp_path))
    choice, context = RunConfig().set(text.split()).attention, context_of(text, where)
    assert features_of(info, choice.options.adapter) == FEATURES
    assert context.mechanisms[0].nbytes == state_bytes(choice, info, KV_HEADS, 4, 0)


def test_that_maps_are_found_by_what_is_in_the_model_file(
    info: ModelInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFERENCE_PLAYGROUND_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BadInput, match=r"nothing is trained for tiny yet; .*distill linear_learned --model .*model\.gguf"):
        adapter_of("linear_learned", info)
    file = tmp_path / "cache" / "adapters" / adapter_name("linear_learned", info)
    file.parent.mkdir(parents=True)
    file.touch()
    moved = tmp_path / "moved.gguf"
    moved.write_bytes(Path(info.path).read_bytes())
    assert adapter_of("linear_learned", info) == adapter_of("linear_learned", replace(info, path=str(moved))) == file
    moved.write_bytes(bytes(255) + b"\x01")
    with pytest.raises(BadInput, match="nothing is trained"):
        adapter_of("linear_learned", replace(info, path=str(moved)))


def test_that_damaged_and_missing_files_are_named(where: Site, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"attention\.adapter=.*none\.safetensors: there is no such file"):
        context_of(settings(tmp_path / "none.safetensors"), where)
    file = written(maps(), tmp_path)
    content = file.read_bytes()
    for damaged, says in ((content[:-40], "cut short"), (b"\xff" * 64, "not a whole safetensors file")):
        file.write_bytes(damaged)
        with pytest.raises(BadInput, match=f"maps.safetensors.*{says}"):
            context_of(settings(file), where)


def test_that_maps_of_another_shape_are_refused(where: Site, tmp_path: Path) -> None:
    file = written(first_features(replace(where, kv_heads=1), FEATURES), tmp_path)
    with pytest.raises(BadInput, match="no feature maps for layer 0 with 6 query heads and 2 KV heads of 8"):
        context_of(settings(file), where)


@pytest.mark.skipif(not is_fetched(), reason="the default model is not fetched")
def test_that_maps_of_the_default_model_are_shipped_with_their_log() -> None:
    info = describe("default")
    file = adapter_of("linear_learned", info)
    log = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    assert log["command"].startswith("distill linear_learned --steps")
    assert len(log["layers"]) == info.layers
    assert features_of(info, "") == log["settings"]["features"]
