"""Fewer KV heads that a tiny model teaches: nearer to what it says with training, and taken by runs with it alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
from engine_harness import Harness

from app.main import main
from core.config import RunConfig
from core.decoder.plan import LayerPlan, Plan, plan_of
from core.decoder.probe import Probe
from core.distill.shared_heads import Settings, distill
from core.distill.work import Progress
from core.engine.engine import Engine
from core.engine.local import LocalBackend
from core.engine.planned import Planned
from core.errors import BadInput
from core.heads.choice import heads_file
from core.models.find import describe, open_checkpoint
from core.models.memory import weight_bytes

COMMAND = "distill kv_sharing --steps 40 --kv-heads 1 --rank 4"
SHARED = ("heads.name=kv_sharing", "heads.kv_heads=1", "heads.repair=true")
HEADS, KV_HEADS, SIZE, WIDTH = 4, 2, 8, 32


@pytest.fixture(scope="module")
def trained(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the command makes for the tiny model, where runs look for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INFERENCE_PLAYGROUND_CACHE", str(tmp_path_factory.mktemp("cache")))
        assert main([*COMMAND.split(), "--model", str(tiny_llama)]) == 0
        file = heads_file(shared(), describe(str(tiny_llama)))
        assert file is not None
        yield file


def shared(*more: str, model: str | Path = "default") -> RunConfig:
    return RunConfig(model=str(model)).set([*SHARED, *more])


def plan(folder: Path, *more: str) -> Plan:
    return Planned.of(shared(*more, model=folder), lambda *_: None).plan


def test_that_training_brings_the_model_nearer_to_what_it_was(trained: Path) -> None:
    log = json.loads(trained.with_suffix(".json").read_text())
    assert log["after"] < 0.85 * log["before"]
    assert log["command"] == COMMAND
    assert len(log["trained_on_by_20_steps"]) == 2


def by_hand(own: LayerPlan, parts: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """W_q and W_o, one head at a time."""
    q, o = own.q.dense().clone(), own.o.dense().clone()
    for head in range(HEADS):
        rows, trained = slice(head * SIZE, head * SIZE + SIZE), head // (HEADS // KV_HEADS)
        q[rows] = parts["q_turns"][trained].T @ q[rows]
        o[:, rows] = o[:, rows] @ parts["o_turns"][trained]
    return q + parts["q_up"] @ parts["q_down"], o + parts["o_up"] @ parts["o_down"]


def test_that_a_plan_has_the_matrices_that_were_trained(trained: Path, tiny_llama: Path) -> None:
    own, tensors = plan_of(open_checkpoint(str(tiny_llama))), safetensors.torch.load_file(trained)
    for pool in ("mean", "least_squares"):
        for index, layer in enumerate(plan(tiny_llama, f"heads.pool={pool}").layers):
            prefix = f"layers.{index}."
            parts = {name.removeprefix(prefix): one.float() for name, one in tensors.items() if name.startswith(prefix)}
            q, o = by_hand(own.layers[index], parts)
            assert layer.kv_heads == 1
            assert torch.equal(layer.k.dense(), parts["k"])
            assert torch.equal(layer.v.dense(), parts["v"])
            for found, expected in ((layer.q, q), (layer.o, o)):
                assert ((found.dense() - expected).abs() <= 2**-8 * expected.abs() + 1e-6).all()  # bfloat16


@pytest.mark.usefixtures("trained")
def test_that_it_is_a_model_with_one_kv_head(tiny_llama: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    ids, planned = torch.arange(60, 100), plan(tiny_llama)
    weights = AutoModelForCausalLM.from_pretrained(tiny_llama).state_dict()
    for index, layer in enumerate(planned.layers):
        for letter in "qkvo":
            weights[f"model.layers.{index}.self_attn.{letter}_proj.weight"] = getattr(layer, letter).dense()
    multi_query = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tiny_llama, num_key_value_heads=1))
    multi_query.load_state_dict(weights)
    with torch.no_grad():
        expected = multi_query.eval()(ids[None]).logits[0]
    config = shared("weights.name=cast", model=tiny_llama)
    session = LocalBackend.load(config, lambda *_: None).session(config, len(ids), Probe())
    assert (session.forward(ids.tolist(), all_logits=True) - expected).abs().max() < 1e-4


def test_that_heads_are_taken_by_runs_that_they_were_trained_for(trained: Path, tiny_llama: Path, tmp_path: Path) -> None:
    info, other = describe(str(tiny_llama)), tmp_path / "other"
    shutil.copytree(tiny_llama, other)
    assert heads_file(shared(), describe(str(other))) == trained
    for name in ("heads.layers=0", "heads.kv_heads=2", "heads.repair=false"):
        assert heads_file(shared(name), info) is None
    weights = safetensors.torch.load_file(other / "model.safetensors")
    weights["model.norm.weight"] += 1
    safetensors.torch.save_file(weights, other / "model.safetensors", {"format": "pt"})
    assert heads_file(shared(), describe(str(other))) is None


def test_that_a_run_says_which_heads_it_took(trained: Path, engine: Engine, tiny_llama: Path) -> None:
    started = Harness(engine, tiny_llama, "local").trace("the cat", *SHARED).started
    assert started is not None
    assert started.environment["trained_heads"] == trained.name


@pytest.mark.usefixtures("trained")
def test_that_their_memory_is_foreseen(tiny_llama: Path) -> None:
    config = shared(model=tiny_llama)
    loaded = LocalBackend.load(config, lambda *_: None)
    assert weight_bytes(describe(str(tiny_llama)), config) == pytest.approx(loaded.weight_bytes, rel=0.01)


def test_that_a_file_of_another_shape_is_named(trained: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERENCE_PLAYGROUND_CACHE", str(trained.parent / "elsewhere"))
    file = trained.parent / "elsewhere" / "adapters" / trained.name
    file.parent.mkdir(parents=True)
    tensors = safetensors.torch.load_file(trained)
    tensors["layers.1.k"] = tensors["layers.1.k"][:, 1:].clone()
    safetensors.torch.save_file(tensors, file)
    with pytest.raises(BadInput, match=f"{file.name}: holds no shared heads that fit layer 1; they belong to another model"):
        plan(tiny_llama)


def test_that_training_tells_how_far_it_is_and_can_be_stopped(tiny_llama: Path) -> None:
    told: list[Progress] = []

    def tell(now: Progress) -> None:
        told.append(now)
        if now.what == "training shared heads":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(str(tiny_llama), Settings(3, 1, 4), tell)
    assert (told[-1].done, told[-1].total) == (1, 3)
    assert told[-1].seconds_left is not None


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--features=8", "--features says nothing to kv_sharing"),
        ("--rank=0", "--rank: 0 is out of range"),
        ("--kv-heads=3", "so it can have 1, 2, 4"),
        ("--kv-heads=2", "no fewer than the model's 2"),
    ],
)
def test_that_what_cannot_be_trained_is_refused(
    argument: str, says: str, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["distill", "kv_sharing", "--model", str(tiny_llama), argument]) == 2
    assert says in capsys.readouterr().err
