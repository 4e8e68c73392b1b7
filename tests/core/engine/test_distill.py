"""Feature maps that a tiny model teaches: nearer to its own attention with training, and fit for a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from engine_harness import Harness

from app.main import main
from core.compatibility import refusals
from core.config import RunConfig
from core.distill.feature_maps import Progress, Settings, distill
from core.engine.engine import Engine
from core.models.find import describe

ARGUMENTS = ["--steps", "30", "--features", "16", "--window", "8", "--sinks", "2", "--sequences", "3"]


@pytest.fixture(scope="module")
def maps(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command makes for the tiny model."""
    file = tmp_path_factory.mktemp("maps") / "maps.safetensors"
    command = ["distill", "linear_learned", "--model", str(tiny_llama), *ARGUMENTS, "--out", str(file)]
    assert main(command) == 0
    return file


def test_that_training_brings_every_layer_nearer_to_its_own_attention(maps: Path) -> None:
    log = json.loads(maps.with_suffix(".json").read_text())
    assert [layer["layer"] for layer in log["layers"]] == [0, 1]
    for layer in log["layers"]:
        assert layer["after"] < 0.7 * layer["before"]
    assert log["command"] == "distill linear_learned --steps 30 --features 16 --window 8 --sinks 2 --sequences 3"


@pytest.mark.parametrize("drafting", ["autoregressive", "prompt_lookup"])
def test_that_a_run_takes_the_maps(maps: Path, engine: Engine, tiny_llama: Path, drafting: str) -> None:
    harness, learned = Harness(engine, tiny_llama, "local"), f"attention.name=linear_learned attention.adapter={maps}"
    exact = harness.ids("", f"decoding.name={drafting}", prompt_tokens=tuple(range(100, 170)))
    chosen = [*learned.split(), f"decoding.name={drafting}"]
    assert harness.ids("", *chosen, "attention.window=200", prompt_tokens=tuple(range(100, 170))) == exact
    assert len(harness.ids("", *chosen, "attention.window=4", prompt_tokens=tuple(range(100, 170)))) == 24


def test_that_a_model_without_maps_is_refused_with_the_command_that_trains_them(tiny_llama: Path) -> None:
    (refusal,) = refusals(RunConfig().set(["attention.name=linear_learned"]), describe(str(tiny_llama)))
    assert refusal.reason.endswith(f"inference-playground distill linear_learned --model {tiny_llama}")


def test_that_heads_which_maps_do_not_fit_are_refused(maps: Path, tiny_llama: Path) -> None:
    settings = f"attention.name=linear_learned attention.adapter={maps} heads.name=kv_sharing heads.kv_heads=1"
    (refusal,) = refusals(RunConfig().set(settings.split()), describe(str(tiny_llama)))
    assert "heads.name=kv_sharing changes" in refusal.reason


def test_that_training_tells_how_far_it_is_and_can_be_stopped(tiny_llama: Path) -> None:
    told: list[Progress] = []

    def tell(now: Progress) -> None:
        told.append(now)
        if now.what.startswith("training layer 1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distill(str(tiny_llama), Settings(4, 8, 8, 2, 2), tell)
    assert {"reading the text", "training layer 0", "training layer 1"} <= {now.what for now in told}
    assert (told[-1].done, told[-1].total) == (4, 8)
    assert told[-1].seconds_left is not None


@pytest.mark.parametrize(("argument", "says"), [("--steps=0", "--steps: 0 is out of range"), ("--features=7", "7 is odd")])
def test_that_what_cannot_be_trained_is_refused(argument: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", "linear_learned", argument]) == 2
    assert says in capsys.readouterr().err
