"""What only the transformers engine runs: recurrent models, mixtures with their routing, and their timing by hooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from engine_harness import VOCABULARY, Harness, save_tokenizer

from core.engine.engine import Engine
from core.errors import BadInput
from core.events import INSPECT, LoadProgress

SMALL: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "eos_token_id": 1}
RECURRENT: dict[str, Any] = {
    "mamba": transformers.MambaConfig(state_size=8, **SMALL),
    "mamba2": transformers.Mamba2Config(state_size=8, num_heads=8, head_dim=8, n_groups=1, chunk_size=16, **SMALL),
    "rwkv": transformers.RwkvConfig(attention_hidden_size=32, **SMALL),
}


def harness_of(folder: Path, config: Any) -> tuple[Harness, Any]:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return Harness(Engine(), folder, "transformers"), model


@pytest.mark.parametrize("kind", RECURRENT)
def test_that_recurrent_models_run_in_chunks_as_in_one_pass(kind: str, tmp_path: Path) -> None:
    harness, model = harness_of(tmp_path, RECURRENT[kind])
    prompt = tuple(range(40))
    chunked = harness.ids("", "run.prefill_chunk=16", "run.max_new_tokens=6", prompt_tokens=prompt)
    tokens = list(prompt)
    with torch.inference_mode():
        for _ in range(6):
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    assert chunked == tokens[40:]


@pytest.mark.parametrize("kind", RECURRENT)
def test_that_drafts_are_refused_where_they_cannot_be_taken_back(kind: str, tmp_path: Path) -> None:
    harness, _ = harness_of(tmp_path, RECURRENT[kind])
    with pytest.raises(BadInput, match="take back"):
        harness.ids("the", "decoding.name=prompt_lookup")


def test_that_a_mixture_shows_its_routing(tmp_path: Path) -> None:
    config = transformers.MixtralConfig(
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        num_local_experts=4,
        max_position_embeddings=128,
        **SMALL,
    )
    harness, _ = harness_of(tmp_path, config)
    trace = harness.trace("the cat", "run.max_new_tokens=5", inspect=INSPECT)
    assert sorted(trace.routing) == [0, 1]
    for routes in trace.routing.values():
        assert sum(len(route.experts) for route in routes) == len(trace.all_tokens) - 1
        assert {route.expert_count for route in routes} == {4}
        assert all(route.experts.shape == route.weights.shape for route in routes)


def test_that_a_sliding_window_model_can_take_drafts_back(tmp_path: Path) -> None:
    config = transformers.Gemma2Config(
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, intermediate_size=48, sliding_window=8, **SMALL
    )
    harness, _ = harness_of(tmp_path, config)
    prompt = tuple(range(60))
    plain, drafted = (
        harness.ids("", f"decoding.name={name}", prompt_tokens=prompt) for name in ("autoregressive", "prompt_lookup")
    )
    assert plain == drafted


def test_that_loading_tells_how_far_it_is(tmp_path: Path) -> None:
    harness, _ = harness_of(tmp_path, transformers.LlamaConfig(num_attention_heads=4, intermediate_size=48, **SMALL))
    events = harness.events(harness.request("the"))
    progress = [event for event in events if isinstance(event, LoadProgress)]
    assert len([event for event in progress if event.stage == "reading" and event.total > 10]) > 10


@pytest.mark.parametrize(
    "weights", ["weights.dtype=bfloat16 weights.name=cast", "weights.name=bnb_nf4", "weights.name=bnb_int8"]
)
def test_that_weights_shrink(tmp_path: Path, weights: str) -> None:
    config = transformers.LlamaConfig(num_attention_heads=2, intermediate_size=128, **{**SMALL, "hidden_size": 64})
    harness, _ = harness_of(tmp_path, config)
    full, small = harness.trace("the", "run.max_new_tokens=2"), harness.trace("the", "run.max_new_tokens=2", *weights.split())
    assert full.loaded is not None
    assert small.loaded is not None
    assert small.loaded.weight_bytes < 0.6 * full.loaded.weight_bytes
    assert len(small.tokens) == 2


def test_that_a_model_transformers_cannot_load_is_bad_input(tmp_path: Path) -> None:
    harness, _ = harness_of(tmp_path, transformers.LlamaConfig(num_attention_heads=4, intermediate_size=48, **SMALL))
    file = tmp_path / "config.json"
    file.write_text(file.read_text().replace('"llama"', '"no_such_model"'))
    with pytest.raises(BadInput, match="no_such_model"):
        harness.ids("the")
