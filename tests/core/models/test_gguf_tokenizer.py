"""Byte-level vocabularies in GGUF files: cut as their declared pre-tokenizer says, and refused when it is unknown."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf import GGUFWriter
from gguf_samples import TOKENS
from tiny_models import finish

from core.errors import BadInput
from core.models.pretokenizers import PRE_TOKENIZERS, pre_tokenizer
from core.models.tokenizer import BYTE_ALPHABET, Tokenizer, open_tokenizer

TEXT = "It's 12345 Ünïcode,  don't\n\n  XMLHttp/\n!! a\t"
# Pieces as each family's published tokenizer.json cuts TEXT.
PIECES = {
    "gpt-2": ["It", "'s", " 12345", " Ünïcode", ",", " ", " don", "'t", "\n\n ", " XMLHttp", "/", "\n", "!!", " a", "\t"],
    "smollm": ["It", "'s", " ", *"12345", " Ünïcode", ",", " ", " don", "'t", "\n\n ", " XMLHttp", "/", "\n", "!!", " a", "\t"],
    "llama-bpe": [
        "It", "'s", " ", "123", "45", " Ünïcode", ",", " ", " don", "'t", "\n\n", " ", " XMLHttp", "/\n", "!!", " a", "\t"
    ],
    "qwen2": ["It", "'s", " ", *"12345", " Ünïcode", ",", " ", " don", "'t", "\n\n", " ", " XMLHttp", "/\n", "!!", " a", "\t"],
    "tekken": [
        "It", "'s", " ", *"12345", " Ünïcode", ",", " ", " don", "'t", "\n\n", " ", " XMLHttp", "/\n", "!!", " a", "\t"
    ],
    "gpt-4o": ["It's", " ", "123", "45", " Ünïcode", ",", " ", " don't", "\n\n", " ", " XMLHttp", "/\n", "!!", " a", "\t"],
}  # fmt: skip


def write(path: Path, **changes: object) -> Path:
    values: dict[str, object] = {
        "model": "gpt2", "pre": "gpt-2", "tokens": TOKENS, "token_type": [1] * 256 + [3, 4] + [1] * 4,
        "merges": ["h e", "l l", "he ll", "hell o"], "eos_token_id": 256, "bos_token_id": 257,
    }  # fmt: skip
    writer = GGUFWriter(path, "llama")
    for key, value in {**values, **changes}.items():
        name = f"tokenizer.ggml.{key}"
        match value:
            case None:
                continue
            case str():
                writer.add_string(name, value)
            case bool():
                writer.add_bool(name, value)
            case int():
                writer.add_uint32(name, value)
            case list():
                writer.add_array(name, value)
    finish(writer)
    return path


def opened(path: Path, **changes: object) -> Tokenizer:
    return open_tokenizer(write(path / "tokenizer.gguf", **changes))


def readable(piece: str) -> str:
    return bytes(BYTE_ALPHABET[character] for character in piece).decode()


@pytest.mark.parametrize("name", PIECES)
def test_that_text_is_cut_as_the_family_cuts_it(name: str) -> None:
    pieces = [readable(piece) for piece, _ in pre_tokenizer(name).build().pre_tokenize_str(TEXT)]
    assert pieces == PIECES[name]


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_that_no_text_is_lost_in_cutting(name: str) -> None:
    pieces = pre_tokenizer(name).build().pre_tokenize_str(TEXT + " 日本語が好き 🎉 100,000")
    assert "".join(readable(piece) for piece, _ in pieces) == TEXT + " 日本語が好き 🎉 100,000"


def test_that_an_unknown_pre_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the pre-tokenizer 'surprise' of this GGUF file is not known here"):
        opened(tmp_path, pre="surprise")
    with pytest.raises(BadInput, match="'missing'"):
        opened(tmp_path, pre=None)


def test_that_an_unknown_tokenizer_model_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the tokenizer model 'rwkv' is not known here"):
        opened(tmp_path, model="rwkv")


def test_that_merges_make_words(tmp_path: Path) -> None:
    tokenizer = opened(tmp_path)
    assert [tokenizer.piece(token) for token in tokenizer.encode("hellohe")] == ["hello", "he"]


def test_that_whole_words_skip_the_merges_where_the_family_says_so(tmp_path: Path) -> None:
    tokens = [*TOKENS, "abc"]  # a word that no merges lead to
    types = [1] * 256 + [3, 4] + [1] * 5
    for pre, count in (("llama-bpe", 1), ("gpt-2", 3)):
        tokenizer = opened(tmp_path, pre=pre, tokens=tokens, token_type=types)
        assert len(tokenizer.encode("abc", special=False)) == count


def test_that_bos_and_eos_are_added_as_the_file_says(tmp_path: Path) -> None:
    assert opened(tmp_path).encode("h")[0] != 257
    assert opened(tmp_path, pre="llama-bpe").encode("h")[0] == 257
    both = opened(tmp_path, add_bos_token=True, add_eos_token=True)
    assert (both.encode("h")[0], both.encode("h")[-1], len(both.encode("h"))) == (257, 256, 3)
    assert len(both.encode("h", special=False)) == 1


def test_that_user_defined_tokens_give_text_and_control_tokens_none(tmp_path: Path) -> None:
    tokenizer = opened(tmp_path)
    assert tokenizer.encode("<|begin|><|end|>") == [257, 256]
    assert tokenizer.decode([257, 256]) == "<|begin|>"
    assert tokenizer.piece(256) == "<|end|>"


def test_that_every_end_of_a_turn_ends_a_generation(tmp_path: Path) -> None:
    assert opened(tmp_path, eot_token_id=258, eom_token_id=999).eos_ids == {256, 258}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tokens": None}, "tokens is missing"),
        ({"merges": None}, "merges is missing"),
        ({"token_type": [1, 2]}, "one type for each token"),
        ({"merges": ["x yz"]}, "the vocabulary is inconsistent"),
        ({"merges": ["x"]}, "the vocabulary is inconsistent"),
        ({"model": "llama", "scores": None}, "one score for each token"),
    ],
)
def test_that_an_inconsistent_vocabulary_is_refused(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=words):
        opened(tmp_path, **changes)
