"""Model folders: what is read, and what is refused with the reason."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tiny_models import tiny_model
from transformers import PreTrainedModel

from core.errors import BadInput
from core.models.find import describe, open_checkpoint
from core.models.safetensors_folder import SafetensorsCheckpoint

_SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return tiny_model("qwen2")


@pytest.fixture
def folder(model: PreTrainedModel, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def weights(folder: Path) -> Path:
    return folder / "model.safetensors"


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_that_every_tensor_has_the_values_that_were_saved(dtype: torch.dtype, model: PreTrainedModel, tmp_path: Path) -> None:
    tiny_model("qwen2").to(dtype).save_pretrained(tmp_path)
    checkpoint = SafetensorsCheckpoint(tmp_path)
    state = model.state_dict()
    for name in checkpoint.names():
        stored = checkpoint.tensor(name)
        assert torch.equal(stored.dense(dtype), state[name].to(dtype))
        assert torch.equal(stored.dense(), state[name].to(dtype).float())
        assert not stored.blocks.flags.owndata
        assert not stored.blocks.flags.writeable
    assert set(checkpoint.info.tensor_bytes) == {{"float32": "F32", "bfloat16": "BF16", "float16": "F16"}[str(dtype)[6:]]}


def test_that_several_files_are_one_model(model: PreTrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    checkpoint = open_checkpoint(str(tmp_path))
    assert sum(checkpoint.tensor(name).nbytes for name in checkpoint.names()) == checkpoint.info.weight_bytes
    assert checkpoint.info.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_that_a_missing_file_of_several_is_named(model: PreTrainedModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    lost = sorted(tmp_path.glob("*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(BadInput, match=f"{lost.name} is missing"):
        describe(str(tmp_path))
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(BadInput, match=r"without a model\.safetensors\.index\.json"):
        describe(str(tmp_path))


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "model.bin"])
def test_that_an_index_cannot_lead_outside_the_folder(name: str, folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"model.norm.weight": name}}))
    with pytest.raises(BadInput, match="is not a safetensors file beside it"):
        describe(str(folder))


def test_that_a_tied_head_is_not_listed_though_it_is_stored(folder: Path, model: PreTrainedModel) -> None:
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_file(state, weights(folder))
    assert "lm_head.weight" in state
    checkpoint = open_checkpoint(str(folder))
    assert checkpoint.info.tied_head
    assert "lm_head.weight" not in checkpoint.names()
    assert checkpoint.info.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_that_a_missing_head_is_tied_whatever_the_config_leaves_out(folder: Path) -> None:
    change_config(folder, tie_word_embeddings=...)
    assert open_checkpoint(str(folder)).config["tie_word_embeddings"] is True


def test_that_the_language_model_of_a_multimodal_folder_is_read(tmp_path: Path) -> None:
    model = tiny_model("gemma3_text")
    text = {**model.config.to_dict(), "model_type": "gemma3_text"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": text, "vision_config": {}}))
    state = {f"language_model.{name}": tensor.clone() for name, tensor in model.state_dict().items() if "lm_head" not in name}
    save_file({**state, "vision_tower.x.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(str(tmp_path))
    assert checkpoint.info.architecture == "gemma3_text"
    assert checkpoint.info.engine == "local"
    assert set(checkpoint.names()) == {name for name in model.state_dict() if "lm_head" not in name}


def test_that_an_unknown_architecture_is_left_to_transformers(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": 2, "n_embd": 8, "n_head": 2}))
    save_file({"wte.weight": torch.zeros(10, 8)}, tmp_path / "model.safetensors")
    info = describe(str(tmp_path))
    assert (info.engine, info.layers, info.width, info.query_heads, info.head_size) == ("transformers", 2, 8, 2, 4)


def test_that_weights_quantized_by_another_library_are_left_to_transformers(folder: Path) -> None:
    change_config(folder, quantization_config={"quant_method": "gptq"})
    assert describe(str(folder)).engine == "transformers"


def test_that_an_empty_folder_says_that_it_has_no_weights(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no weights"):
        describe(str(tmp_path))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt", "consolidated.00.pth"])
def test_that_a_folder_of_pickles_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04.")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadInput, match="is a pickle, and loading one runs whatever code it holds"):
        describe(str(tmp_path))


def test_that_a_folder_without_config_says_so(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(BadInput, match=r"there is no config\.json"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"model_type": 3}', "{}"])
def test_that_a_senseless_config_is_refused(text: str, folder: Path) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(BadInput, match=r"config\.json"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize(("key", "value"), [("hidden_size", "32"), ("num_hidden_layers", -1), ("num_attention_heads", 0)])
def test_that_a_senseless_size_is_named(key: str, value: object, folder: Path) -> None:
    change_config(folder, **{key: value})
    with pytest.raises(BadInput, match=f"{key} is {value!r}, not a positive whole number"):
        open_checkpoint(str(folder))
    change_config(folder, **{key: ...})
    with pytest.raises(BadInput, match=f"{key} is missing"):
        open_checkpoint(str(folder))


def test_that_a_tensor_out_of_shape_is_named(folder: Path) -> None:
    change_config(folder, intermediate_size=128)
    with pytest.raises(BadInput, match=r"up_proj\.weight has shape \[64, 32\], but the model's sizes ask for \[128, 32\]"):
        open_checkpoint(str(folder)).tensor("model.layers.0.mlp.up_proj.weight")


@_SETTINGS
@given(data=st.data())
def test_that_a_file_cut_anywhere_is_refused(data: st.DataObject, folder: Path) -> None:
    whole = weights(folder).read_bytes()
    weights(folder).write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(BadInput, match=r"model\.safetensors"):
        open_checkpoint(str(folder))
    weights(folder).write_bytes(whole)


@_SETTINGS
@given(header=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_that_a_damaged_header_is_refused(header: bytes, folder: Path) -> None:
    weights(folder).write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    with pytest.raises(BadInput, match="safetensors"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 2**62]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": None, "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2]},
        "F32",
    ],
)
def test_that_a_hostile_entry_is_refused(entry: object, folder: Path) -> None:
    header = json.dumps({"model.norm.weight": entry}).encode()
    weights(folder).write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    with pytest.raises(BadInput, match=r"model\.safetensors"):
        open_checkpoint(str(folder))


def test_that_a_header_longer_than_the_file_allocates_nothing(folder: Path) -> None:
    weights(folder).write_bytes(struct.pack("<Q", 2**60) + bytes(64))
    with pytest.raises(BadInput, match="not a whole safetensors file"):
        open_checkpoint(str(folder))
