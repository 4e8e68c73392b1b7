"""What the metadata of a GGUF file says of rotary frequencies, heads and experts, in terms of a config.json."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from gguf_samples import SHAPES, sample_writer
from tiny_models import finish
from transformers import AutoConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from core.errors import BadInput
from core.models.gguf_config import config_of
from core.models.gguf_header import read_header

BASE = 10_000.0
HEAD = 64


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The config of the sample with what `change` adds to its writer."""

    def config(change: Callable[[GGUFWriter], object], **metadata: int) -> dict[str, Any]:
        writer = sample_writer(tmp_path / "sample.gguf", **metadata)
        change(writer)
        for name, shape in SHAPES.items():
            writer.add_tensor(f"{name}.weight", np.zeros(shape, dtype=np.float32))
        finish(writer)
        return config_of(read_header(tmp_path / "sample.gguf"))

    return config


def nothing(_writer: GGUFWriter) -> None:
    pass


def frequencies(config: dict[str, Any]) -> torch.Tensor:
    """The inverse frequencies that transformers computes from a config."""
    parsed = AutoConfig.for_model(**config)
    kind = parsed.rope_parameters["rope_type"]
    if kind == "default":
        return 1.0 / BASE ** (torch.arange(0, HEAD, 2) / HEAD)
    inverse, factor = ROPE_INIT_FUNCTIONS[kind](parsed, "cpu")
    assert factor == 1.0
    return inverse


def test_that_plain_files_have_plain_frequencies(read) -> None:
    config = read(nothing)
    assert "rope_scaling" not in config
    assert config["rope_theta"] == BASE
    assert config["head_dim"] == HEAD


def test_that_a_factor_for_each_frequency_divides_it(read) -> None:
    factors = np.geomspace(1, 8, HEAD // 2).astype(np.float32)
    config = read(lambda writer: writer.add_tensor("rope_freqs.weight", factors))
    torch.testing.assert_close(frequencies(config), frequencies(read(nothing)) / torch.from_numpy(factors))


def test_that_linear_scaling_is_read(read) -> None:
    def change(writer: GGUFWriter) -> None:
        writer.add_string("llama.rope.scaling.type", "linear")
        writer.add_rope_scaling_factor(4.0)

    torch.testing.assert_close(frequencies(read(change)), frequencies(read(nothing)) / 4)


def test_that_yarn_is_read(read) -> None:
    def change(writer: GGUFWriter) -> None:
        writer.add_string("llama.rope.scaling.type", "yarn")
        writer.add_rope_scaling_factor(2.0)
        writer.add_rope_scaling_orig_ctx_len(64)

    scaling = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64}
    assert read(change)["rope_scaling"] == scaling


def test_that_factors_for_long_and_short_texts_are_read(read) -> None:
    def change(writer: GGUFWriter) -> None:
        writer.add_tensor("rope_factors_long.weight", np.full(HEAD // 2, 3, dtype=np.float32))
        writer.add_tensor("rope_factors_short.weight", np.full(HEAD // 2, 1.5, dtype=np.float32))
        writer.add_rope_scaling_orig_ctx_len(64)

    config = read(change)
    assert config["original_max_position_embeddings"] == 64
    assert config["rope_scaling"]["long_factor"] == [3.0] * (HEAD // 2)
    assert config["rope_scaling"]["short_factor"] == [1.5] * (HEAD // 2)


def test_that_unknown_scaling_is_refused(read) -> None:
    with pytest.raises(BadInput, match="rope scaling 'magic' is not known here"):
        read(lambda writer: writer.add_string("llama.rope.scaling.type", "magic"))


def test_that_older_files_give_the_head_size_as_the_rotated_part(read) -> None:
    assert read(nothing, **{"llama.rope.dimension_count": 32})["head_dim"] == 32


def test_that_one_size_for_all_layers_may_be_a_list(read) -> None:
    assert (
        read(lambda writer: writer.add_array("llama.rope.scaling.original_context_length", [128, 128]))["model_type"] == "llama"
    )
    with pytest.raises(BadInput, match="not a positive number for all layers"):
        read(lambda writer: writer.add_array("llama.rope.scaling.original_context_length", [128, 64]))


@pytest.mark.parametrize("name", ["Mistral 7B Instruct v0.3", "mistral-nemo"])
def test_that_a_mistral_is_told_by_its_name(name: str, read) -> None:
    assert read(lambda writer: writer.add_name(name))["model_type"] == "mistral"


def test_that_more_experts_used_than_there_are_is_refused(read) -> None:
    with pytest.raises(BadInput, match="5 of 4 experts used is not possible"):
        read(nothing, **{"llama.expert_count": 4, "llama.expert_used_count": 5})


@pytest.mark.parametrize("key", ["embedding_length", "attention.head_count", "feed_forward_length", "context_length"])
def test_that_a_size_of_zero_is_named(key: str, read) -> None:
    with pytest.raises(BadInput, match=f"llama.{key} is 0, not a positive number"):
        read(nothing, **{f"llama.{key}": 0})
