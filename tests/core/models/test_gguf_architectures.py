"""Every architecture read from a GGUF file is the model that was converted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import MODELS, logits, tiny_model, write_gguf
from transformers import AutoModelForCausalLM

from core.decoder.architectures import LOCAL_ARCHITECTURES
from core.models.find import describe
from core.models.gguf_file import GgufCheckpoint
from core.models.safetensors_folder import SafetensorsCheckpoint


def test_that_every_local_architecture_has_a_tiny_model() -> None:
    assert set(MODELS) == LOCAL_ARCHITECTURES


@pytest.mark.parametrize("kind", MODELS)
def test_that_a_converted_model_is_read_back_to_equal_names_values_and_logits(kind: str, tmp_path: Path) -> None:
    model = tiny_model(kind)
    tensors = write_gguf(tmp_path / "tiny.gguf", model, tmp_path / "folder")
    checkpoint = GgufCheckpoint(tmp_path / "tiny.gguf")
    assert checkpoint.info.architecture == kind
    assert set(checkpoint.names()) == set(tensors)
    read = {name: checkpoint.tensor(name).dense() for name in checkpoint.names()}
    for name, tensor in tensors.items():
        assert read[name].shape == tensor.shape, name
        torch.testing.assert_close(read[name], tensor, rtol=0, atol=3e-7, msg=name)  # gemma's plus one rounds

    again = tmp_path / "again"
    again.mkdir()
    (again / "config.json").write_text(json.dumps(checkpoint.config))
    save_file(read, again / "model.safetensors", metadata={"format": "pt"})
    reread = AutoModelForCausalLM.from_pretrained(again, dtype=torch.float32)
    torch.testing.assert_close(logits(reread), logits(model), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_that_a_folder_and_its_gguf_file_describe_the_same_model(kind: str, tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", tiny_model(kind), tmp_path / "folder")
    gguf, folder = describe(str(tmp_path / "tiny.gguf")), describe(str(tmp_path / "folder"))
    assert gguf.engine == folder.engine == "local"
    for field in (
        "architecture", "layers", "width", "query_heads", "kv_heads", "head_size", "ffn_width", "vocabulary", "context",
        "parameters", "tied_head", "experts", "experts_used", "matrix_bytes", "embedding_bytes",
    ):  # fmt: skip
        assert getattr(gguf, field) == getattr(folder, field), field
    assert set(SafetensorsCheckpoint(tmp_path / "folder").names()) == set(GgufCheckpoint(tmp_path / "tiny.gguf").names())
