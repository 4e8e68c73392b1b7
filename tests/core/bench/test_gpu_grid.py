"""The survey's grid: measured on the processor with a tiny shape, and set beside the published figures."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
import torch

from core.attention.mask import FULL
from core.bench.gpu.grid import GridModel, Times, end_to_end
from core.bench.gpu.report import NEW_TOKENS, published, rows_of, text_of, to_csv, to_dict
from core.bench.gpu.run import GridRecord, GridSettings, fill, gpu
from core.bench.gpu.shapes import SHAPES, named, random_plan
from core.cache.base import Layout
from core.cuda.session import DeviceSession, Room
from core.cuda.store import Stores
from core.decoder.probe import Probe
from core.errors import BadInput

CPU = torch.device("cpu")
TINY: dict[str, Any] = SHAPES["LLaMA-2-7B"] | {
    "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
    "vocab_size": 300,
}  # fmt: skip
SETTINGS = GridSettings(("LLaMA-2-7B",), (1, 2), (128, 256), 8, ("FP16", "W4A16"))


@pytest.fixture(scope="module")
def filled() -> GridRecord:
    record = GridRecord(SETTINGS, {"device": "a processor"}, 1e10, 1e12)
    fill(record, "LLaMA-2-7B", TINY, CPU, lambda *_: None)
    return record


def test_that_shapes_have_the_published_sizes() -> None:
    for name, billions in (("7B", 6.74), ("13B", 13.02)):
        plan = random_plan(SHAPES[named(name)], CPU)
        matrices = [plan.embed, plan.head]
        for layer in plan.layers:
            matrices += [layer.q, layer.k, layer.v, layer.o, layer.ffn.gate, layer.ffn.up, layer.ffn.down]
        assert abs(sum(matrix.shape[0] * matrix.shape[1] for matrix in matrices) / 1e9 - billions) < 0.01
    with pytest.raises(BadInput, match="there is no shape '70B'; the shapes are LLaMA-2-7B, LLaMA-2-13B"):
        named("70B")


def test_that_sequences_side_by_side_get_the_tokens_they_get_alone() -> None:
    model = GridModel(TINY, "W4A16", CPU)
    prompts = torch.tensor([[5, 9, 2, 7, 1, 3], [250, 7, 8, 100, 3, 3]])
    layout = Layout((4, 4), 32, 64, model.decoder.kv_dtype)
    together = greedy(model, layout, prompts, 20)
    for prompt, tokens in zip(prompts.tolist(), together, strict=True):
        room = Room(64, whole=True)
        session = DeviceSession(model.steps, Stores(model.decoder.decoder.ropes, CPU), layout, room, (FULL, FULL), Probe())
        logits, alone = session.forward(prompt, all_logits=True), []
        for _ in range(20):
            alone.append(int(logits[-1].argmax()))
            logits = session.forward(alone[-1:])
        assert alone == tokens


@torch.inference_mode()
def greedy(model: GridModel, layout: Layout, prompts: torch.Tensor, count: int) -> list[list[int]]:
    """The tokens after each prompt, from the batch axis alone."""
    store = Stores(model.decoder.decoder.ropes, CPU).take(model, layout, 128, len(prompts))
    model.prefill(store, prompts)
    tokens = [store.tokens[:, 0].tolist()]
    for step in range(count - 1):
        model.decode(store, prompts.shape[1] + step, 1)
        tokens.append(store.tokens[:, 0].tolist())
    return [list(column) for column in zip(*tokens, strict=True)]


def test_that_every_cell_is_measured_and_its_ratios_follow(filled: GridRecord) -> None:
    rows = rows_of(filled)
    assert [(row["batch_size"], row["context_tokens"]) for row in rows] == [(1, 128), (1, 256), (2, 128), (2, 256)]
    for row in rows:
        assert row["W4A16 decode"] == pytest.approx(row["FP16 step_ms"] / row["W4A16 step_ms"])
        assert row["W4A16 prefill"] == pytest.approx(row["FP16 prefill_ms"] / row["W4A16 prefill_ms"])
        parts = sorted((row["W4A16 prefill"], row["W4A16 decode"]))
        assert parts[0] <= row["W4A16 end_to_end"] <= parts[1]
        assert row["FP16 mbu"] > 0


def test_that_published_figures_stand_beside_measured_ones(filled: GridRecord) -> None:
    first = rows_of(filled)[0]
    found = [first[f"TensorRT-LLM {phase}"] for phase in ("prefill", "decode", "end_to_end")]
    assert found == [1.06, 2.40, 2.37]
    assert published()["LMDeploy", "LLaMA-2-13B", 8, 256]["note"].startswith("impossible")
    assert published()["TensorRT-LLM", "LLaMA-2-13B", 16, 2048]["decode"] is None
    assert len(published()) == 100


def test_that_the_grid_is_written_as_csv_json_and_text(filled: GridRecord) -> None:
    filled.steps["LLaMA-2-7B"] = 1.0
    lines = list(csv.DictReader(io.StringIO(to_csv(filled))))
    assert [line["context_tokens"] for line in lines] == ["128", "256", "128", "256"]
    told = json.loads(json.dumps(to_dict(filled)))
    ours = filled.times["LLaMA-2-7B", "FP16", 1, 128]
    assert ours is not None
    assert told["transformers"]["LLaMA-2-7B"]["ratio_to_ours"]["FP16"] == pytest.approx(1.0 / ours.step)
    assert "LLaMA-2-7B" in text_of(filled)


def test_that_a_cell_without_memory_stays_empty() -> None:
    record = GridRecord(SETTINGS, {"device": "a processor"}, None, None)
    record.times["LLaMA-2-7B", "FP16", 1, 128] = Times(1.0, 0.1, 1e9)
    row = rows_of(record)[0]
    assert row["W4A16 decode"] is None
    assert row["FP16 mbu"] is None
    assert row["FP16 step_ms"] == 100
    assert end_to_end(Times(1.0, 0.1, 1e9), NEW_TOKENS) == pytest.approx(1 + 12.7)


def test_that_without_a_gpu_the_benchmark_says_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(BadInput, match="bench --gpu needs an NVIDIA GPU, and "):
        gpu()
