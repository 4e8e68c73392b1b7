"""SentencePiece vocabularies, from a GGUF file or a folder, cut text as SentencePiece itself does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sentencepiece
from gguf import GGUFWriter
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import finish

from core.errors import BadInput
from core.models.tokenizer import Tokenizer, open_tokenizer

_SETTINGS = settings(max_examples=200, deadline=None)
# NUL ends a C string in SentencePiece, and `▁` and special tokens stand for other things than themselves.
TEXTS = st.one_of(
    st.text(st.characters(exclude_characters="▁\0", exclude_categories=["Cs"])),
    st.text(" abcdef\n01"),
    st.sampled_from(["def f(x):\n    return x  # twice", " leading", "  two", "naïve 日本語 🎉", "", " "]),
).filter(lambda text: "<" not in text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sentencepiece")
    text = "\n".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py"))
    (folder / "corpus.txt").write_text(text, encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"), model_prefix=str(folder / "tokenizer"), vocab_size=700, model_type="bpe",
        byte_fallback=True, split_digits=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True, minloglevel=2,
    )  # fmt: skip
    settings = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "added_tokens_decoder": {"700": {"content": "<|end|>"}}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def reference(folder: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))


@pytest.fixture(scope="module", params=["folder", "gguf"])
def tokenizer(request: pytest.FixtureRequest, folder: Path, reference) -> Tokenizer:
    if request.param == "folder":
        return open_tokenizer(folder)
    write_gguf(folder / "tokenizer.gguf", reference)
    return open_tokenizer(folder / "tokenizer.gguf")


def write_gguf(path: Path, model: sentencepiece.SentencePieceProcessor) -> None:
    writer = GGUFWriter(path, "llama")
    ids = range(model.get_piece_size())
    writer.add_tokenizer_model("llama")
    writer.add_token_list([model.id_to_piece(token) for token in ids])
    writer.add_token_scores([model.get_score(token) for token in ids])
    kinds = ((model.is_unknown, 2), (model.is_control, 3), (model.is_byte, 6))
    writer.add_token_types([next((kind for test, kind in kinds if test(token)), 1) for token in ids])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    finish(writer)


@_SETTINGS
@given(text=TEXTS)
def test_that_ids_are_those_of_sentencepiece_after_bos(tokenizer: Tokenizer, reference, text: str) -> None:
    assert tokenizer.encode(text) == [1, *reference.encode(text)]
    assert tokenizer.encode(text, special=False) == reference.encode(text)


@_SETTINGS
@given(text=TEXTS)
def test_that_text_comes_back_unchanged(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_that_bytes_are_shown_and_spaces_kept_inside_a_text(tokenizer: Tokenizer) -> None:
    rare = chr(0x436)  # not written out, since this file is part of what the vocabulary was learned from
    pieces = tokenizer.encode(f"a {rare}", special=False)
    assert [tokenizer.piece(token) for token in pieces][-2:] == [r"\xd0", r"\xb6"]
    assert b"".join(tokenizer.bytes_of(token) for token in pieces) == f" a {rare}".encode()


def test_that_ends_are_known(tokenizer: Tokenizer) -> None:
    assert (tokenizer.eos_ids, tokenizer.bos_id) == ({2}, 1)
    assert tokenizer.special_tokens["eos_token"] == "</s>"


def test_that_tokens_added_when_tuning_come_after_the_vocabulary(folder: Path) -> None:
    tokenizer = open_tokenizer(folder)
    assert tokenizer.encode("a<|end|>")[-1] == 700
    assert tokenizer.piece(700) == "<|end|>"


def test_that_gemma_files_keep_their_tokens_of_several_spaces(tmp_path: Path) -> None:
    tokens = ["<unk>", "<bos>", "<eos>", "▁", "a", "b", "  ", "▁a"]
    writer = GGUFWriter(tmp_path / "gemma.gguf", "gemma2")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([2, 3, 3, 1, 1, 1, 4, 1])
    writer.add_bos_token_id(1)
    finish(writer)
    tokenizer = open_tokenizer(tmp_path / "gemma.gguf")
    assert tokenizer.encode("b  a a") == [1, 5, 6, 4, 7]
    assert tokenizer.decode([1, 5, 6, 4, 7]) == "b  a a"
    assert tokenizer.piece(6) == "  "


def test_that_a_damaged_model_is_refused(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "tokenizer.model").read_bytes()
    for data in (b"", whole[: len(whole) // 2], b"\xff" * 100, b"hello"):
        (tmp_path / "tokenizer.model").write_bytes(data)
        with pytest.raises(BadInput, match=r"tokenizer\.model: not a"):
            open_tokenizer(tmp_path)
