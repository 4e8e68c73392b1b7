"""Every readable tensor type gives exactly the values that its definition says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType, dequantize
from gguf_samples import SHAPES, blocks, write_sample

from core.errors import BadInput
from core.models.checkpoint import StoredTensor
from core.models.gguf_file import GgufCheckpoint
from core.models.gguf_header import READABLE
from core.models.gguf_types import ARRAY, SCALARS, STRING, TENSORS


def half(block: np.ndarray, start: int) -> float:
    return float(block[start : start + 2].view(np.float16)[0])


def k_scale(block: np.ndarray, group: int) -> tuple[int, int]:
    """The 6-bit scale and minimum of group 0…7, from the twelve bytes that hold them."""
    packed = block[4:16].astype(int)
    if group < 4:
        return packed[group] & 63, packed[group + 4] & 63
    low = packed[group + 4]
    return (low & 15) | ((packed[group - 4] >> 6) << 4), (low >> 4) | ((packed[group] >> 6) << 4)


def q4_k(block: np.ndarray) -> list[float]:
    values = []
    for index in range(256):
        group = index // 32
        byte = int(block[16 + (index // 64) * 32 + index % 32])
        scale, minimum = k_scale(block, group)
        values.append(half(block, 0) * scale * ((byte >> 4) if group % 2 else (byte & 15)) - half(block, 2) * minimum)
    return values


def q5_k(block: np.ndarray) -> list[float]:
    values = []
    for index in range(256):
        group = index // 32
        byte, high = int(block[48 + (index // 64) * 32 + index % 32]), int(block[16 + index % 32])
        code = ((byte >> 4) if group % 2 else (byte & 15)) + 16 * ((high >> group) & 1)
        scale, minimum = k_scale(block, group)
        values.append(half(block, 0) * scale * code - half(block, 2) * minimum)
    return values


def q6_k(block: np.ndarray) -> list[float]:
    values = []
    for index in range(256):
        part, within = divmod(index, 128)
        quarter, column = divmod(within, 32)
        low = int(block[part * 64 + (quarter % 2) * 32 + column])
        low = low >> 4 if quarter >= 2 else low & 15
        high = (int(block[128 + part * 32 + column]) >> (2 * quarter)) & 3
        scale = int(block[192 + index // 16].view(np.int8))
        values.append(half(block, 208) * scale * (low + 16 * high - 32))
    return values


@pytest.mark.parametrize("kind", READABLE)
def test_that_a_checkpoint_gives_the_values_of_its_type(kind: str, tmp_path: Path) -> None:
    type_ = GGMLQuantizationType[kind]
    written = write_sample(tmp_path / "sample.gguf", type_)
    checkpoint = GgufCheckpoint(tmp_path / "sample.gguf")
    stored = checkpoint.tensor("model.layers.0.mlp.down_proj.weight")
    assert (stored.kind, stored.shape) == (kind, SHAPES["blk.0.ffn_down"])
    assert np.array_equal(stored.blocks, written["blk.0.ffn_down"])
    expected = dequantize(written["blk.0.ffn_down"], type_)
    assert np.array_equal(stored.dense().numpy(), expected.reshape(stored.shape))
    assert stored.nbytes == written["blk.0.ffn_down"].nbytes == stored.blocks.nbytes


@pytest.mark.parametrize(("kind", "reference"), [("Q4_K", q4_k), ("Q5_K", q5_k), ("Q6_K", q6_k)])
def test_that_k_quants_agree_with_their_definition_written_out(kind: str, reference) -> None:
    data = blocks(np.random.default_rng(1), GGMLQuantizationType[kind], (8, 256))
    values = StoredTensor("x", kind, (8, 256), data).dense().numpy()
    np.testing.assert_allclose(values, [reference(row) for row in data], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("kind", READABLE)
def test_that_a_choice_of_rows_keeps_their_codes(kind: str) -> None:
    data = blocks(np.random.default_rng(2), GGMLQuantizationType[kind], (16, 256))
    stored = StoredTensor("x", kind, (16, 256), data)
    order = np.array([5, 0, 15, 5])
    chosen = stored.rows(order)
    assert chosen.kind == kind
    assert chosen.shape == (4, 256)
    assert torch.equal(chosen.dense(), stored.dense()[order])
    assert torch.equal(stored.rows(slice(4, 8)).dense(), stored.dense()[4:8])


def test_that_blocks_are_mapped_and_cannot_be_written(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample.gguf", GGMLQuantizationType.Q4_0)
    stored = GgufCheckpoint(tmp_path / "sample.gguf").tensor("model.layers.0.mlp.up_proj.weight")
    assert not stored.blocks.flags.writeable
    assert not stored.blocks.flags.owndata


def test_that_dense_values_can_be_changed_without_changing_the_file(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample.gguf")
    checkpoint = GgufCheckpoint(tmp_path / "sample.gguf")
    first = checkpoint.tensor("model.norm.weight").dense()
    first.zero_()
    assert checkpoint.tensor("model.norm.weight").dense().abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_that_dense_rounds_once_to_the_asked_format(dtype: torch.dtype) -> None:
    data = blocks(np.random.default_rng(3), GGMLQuantizationType.Q5_1, (4, 64))
    stored = StoredTensor("x", "Q5_1", (4, 64), data)
    assert torch.equal(stored.dense(dtype), stored.dense().to(dtype))


def test_that_a_type_without_reader_is_named_with_its_tensor(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample.gguf", GGMLQuantizationType.Q3_K)
    checkpoint = GgufCheckpoint(tmp_path / "sample.gguf")
    assert "Q3_K" in checkpoint.info.tensor_bytes
    with pytest.raises(BadInput, match=r"token_embd\.weight is stored as Q3_K; readable are F32"):
        checkpoint.tensor("model.embed_tokens.weight")


def test_that_types_and_their_blocks_are_those_of_the_format() -> None:
    known = {int(kind): (kind.name, *GGML_QUANT_SIZES[kind]) for kind in GGMLQuantizationType}
    assert {code: blocks for code, blocks in TENSORS.items() if code in known} == known
    assert {STRING, ARRAY, *SCALARS} == {int(kind) for kind in GGUFValueType}
