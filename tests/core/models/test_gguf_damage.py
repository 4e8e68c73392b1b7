"""Damaged, hostile and foreign GGUF files end in one clear sentence, never in anything else."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType
from gguf_samples import sample_writer, write_sample
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import finish

from core.errors import BadInput
from core.models.find import describe, open_checkpoint
from core.models.gguf_header import read_header
from core.models.tokenizer import open_tokenizer

_SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "sample.gguf"
    write_sample(path, GGMLQuantizationType.Q4_0)
    return path.read_bytes()


def use(path: Path) -> None:
    """All that a session does with a file: describe it, open it, read every tensor, build the tokenizer."""
    describe(str(path))
    checkpoint = open_checkpoint(str(path))
    for name in checkpoint.names():
        checkpoint.tensor(name).dense()
    open_tokenizer(path).encode("hello")


def header_bytes(sample: bytes) -> int:
    """Where the tensors begin, nearly."""
    return sample.index(b"blk.0.ffn_down") + 64


@_SETTINGS
@given(data=st.data())
def test_that_a_file_cut_anywhere_is_refused(data: st.DataObject, sample: bytes, tmp_path: Path) -> None:
    limit = data.draw(st.sampled_from([header_bytes(sample), len(sample) - 1]))
    path = tmp_path / "cut.gguf"
    path.write_bytes(sample[: data.draw(st.integers(0, limit))])
    with pytest.raises(BadInput, match=str(path)):
        use(path)


@_SETTINGS
@given(data=st.data())
def test_that_changed_header_bytes_are_refused_or_read(data: st.DataObject, sample: bytes, tmp_path: Path) -> None:
    changed = bytearray(sample)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, header_bytes(sample)))
        changed[place : place + 1] = data.draw(st.binary(min_size=1, max_size=1))
    path = tmp_path / "changed.gguf"
    path.write_bytes(changed)
    with suppress(BadInput):
        use(path)


@_SETTINGS
@given(garbage=st.binary(max_size=400))
def test_that_garbage_is_refused(garbage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "garbage.gguf"
    for start in (b"", b"GGUF", b"GGUF" + struct.pack("<I", 3)):
        path.write_bytes(start + garbage)
        with pytest.raises(BadInput, match=str(path)):
            describe(str(path))


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        (struct.pack("<IQQ", 3, 2**62, 0), "tensors, more than the file holds"),
        (struct.pack("<IQQ", 3, 0, 2**62), "metadata entries, more than the file holds"),
        (struct.pack("<IQQQ", 3, 0, 1, 2**63) + bytes(64), "ends inside its header"),
        (struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 8, 2**60) + bytes(64), "strings, more than the file holds"),
        (struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 9, 1) + bytes(64), "array of arrays"),
        (struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"k", 77) + bytes(64), "unknown value type 77"),
        (struct.pack("<IQQ", 1, 0, 0), "GGUF version 1 is not known"),
        (struct.pack(">IQQ", 3, 0, 0), "little-endian"),
    ],
)
def test_that_a_hostile_header_allocates_nothing(tail: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.gguf"
    path.write_bytes(b"GGUF" + tail)
    with pytest.raises(BadInput, match=words):
        read_header(path)


def test_that_an_empty_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty.gguf").touch()
    with pytest.raises(BadInput, match="the file is empty"):
        describe(str(tmp_path / "empty.gguf"))


def test_that_a_part_of_a_split_model_says_how_to_join_it(tmp_path: Path) -> None:
    writer = sample_writer(tmp_path / "part.gguf")
    writer.add_uint16("split.count", 3)
    finish(writer)
    with pytest.raises(BadInput, match="one of 3 parts of a split model"):
        describe(str(tmp_path / "part.gguf"))


def test_that_more_layers_than_tensors_are_refused(tmp_path: Path) -> None:
    write_sample(tmp_path / "deep.gguf", **{"llama.block_count": 2**31})
    with pytest.raises(BadInput, match="block_count is 2147483648, but the file holds 11 tensors"):
        describe(str(tmp_path / "deep.gguf"))


def test_that_heads_that_cannot_share_the_rows_are_refused(tmp_path: Path) -> None:
    write_sample(tmp_path / "odd.gguf", **{"llama.attention.head_count": 7})
    with pytest.raises(BadInput, match="7 heads"):
        open_checkpoint(str(tmp_path / "odd.gguf")).tensor("model.layers.0.self_attn.q_proj.weight")


def test_that_a_tensor_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample.gguf")
    with pytest.raises(BadInput, match=r"no tensor for lm_head\.weight"):
        open_checkpoint(str(tmp_path / "sample.gguf")).tensor("lm_head.weight")
