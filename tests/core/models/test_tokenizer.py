"""The tokenizer of the default model's file: equal to the references, and nothing is lost on the way back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from core.errors import BadInput
from core.models.default import default_path, is_fetched
from core.models.tokenizer import BYTE_ALPHABET, Tokenizer, open_tokenizer

_SETTINGS = settings(max_examples=300, deadline=None)
ENGLISH = """It was a bright cold day in April, and the clocks were striking thirteen. Winston's chin was nuzzled
into his breast; he'd slipped quickly through the glass doors -- though not quickly enough! "Is that so?" (yes, it is).

The capital of France is Paris. We'll meet at 7:30 on 12/03/2024, in room 4; they're paying $1,250.75.
"""
TEXTS = st.one_of(
    st.text(),
    st.text(st.characters(categories=["L", "N", "P", "Z", "S", "M"])),
    st.text(" \t\n\r\u00a0\u3000ab1'"),
    st.text("👩🏽‍🚀🎉é日本語ßﬁ"),
    st.sampled_from(ENGLISH.split(" ")).map(lambda word: f" {word} "),
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    if not is_fetched():
        pytest.skip("the default model is not fetched")
    return open_tokenizer(default_path())


@pytest.fixture(scope="module")
def reference() -> AutoTokenizer:
    if not is_fetched():
        pytest.skip("the default model is not fetched")
    return AutoTokenizer.from_pretrained(default_path().parent, gguf_file=default_path().name)


@pytest.fixture(scope="module")
def known_bytes(tokenizer: Tokenizer) -> set[int]:
    """Bytes that the vocabulary has a token for; this file lacks 21, of characters nobody writes."""
    vocabulary = tokenizer.backend.get_vocab()
    return {byte for character, byte in BYTE_ALPHABET.items() if character in vocabulary}


def test_that_english_has_the_ids_that_transformers_gives(tokenizer: Tokenizer, reference: AutoTokenizer) -> None:
    assert tokenizer.encode("The capital of France is") == [504, 3575, 282, 4649, 314]
    assert tokenizer.encode(ENGLISH) == reference(ENGLISH).input_ids
    assert tokenizer.vocabulary_size == len(reference) == 49152


@_SETTINGS
@given(text=TEXTS)
def test_that_text_without_digits_has_the_ids_that_transformers_gives(tokenizer, reference, text: str) -> None:
    text = "".join(character for character in text if not character.isnumeric())
    assert tokenizer.encode(text) == reference(text).input_ids


def test_that_digits_are_cut_off_before_spaces_are_as_the_file_declares(tokenizer: Tokenizer) -> None:
    assert [tokenizer.piece(token) for token in tokenizer.encode("b  34")] == ["b", "  ", "3", "4"]


@_SETTINGS
@given(text=TEXTS)
def test_that_text_comes_back_unchanged(tokenizer: Tokenizer, known_bytes: set[int], text: str) -> None:
    text = "".join(character for character in text if known_bytes.issuperset(character.encode()))
    assert tokenizer.decode(tokenizer.encode(text)) == text


@_SETTINGS
@given(ids=st.lists(st.integers(0, 49151), max_size=30))
def test_that_any_ids_decode_as_the_library_decodes_them(tokenizer: Tokenizer, ids: list[int]) -> None:
    assert tokenizer.decode(ids) == tokenizer.backend.decode(ids, skip_special_tokens=True)


def test_that_a_python_file_comes_back_unchanged(tokenizer: Tokenizer) -> None:
    code = Path(__file__).with_name("gguf_samples.py").read_text(encoding="utf-8").replace("<|", "< |")
    assert tokenizer.decode(tokenizer.encode(code)) == code


def test_that_special_tokens_are_recognised_in_text_and_give_none_back(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("<|im_start|>user\nhi<|im_end|>")
    assert (ids[0], ids[-1]) == (1, 2)
    assert tokenizer.piece(1) == "<|im_start|>"
    assert tokenizer.bytes_of(1) == b""
    assert tokenizer.decode(ids) == "user\nhi"


def test_that_pieces_show_the_bytes_of_an_unfinished_character(tokenizer: Tokenizer) -> None:
    assert [tokenizer.piece(token) for token in tokenizer.encode("🎉")] == [r"\xf0\x9f", r"\x8e", r"\x89"]


def test_that_ids_outside_the_vocabulary_give_no_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.bytes_of(10**6) == b""
    assert tokenizer.decode([10**6]) == ""


def test_that_ends_and_beginnings_come_from_the_file(tokenizer: Tokenizer) -> None:
    assert tokenizer.eos_ids == {2}
    assert tokenizer.bos_id == 1


def test_that_a_chat_renders_as_transformers_renders_it(tokenizer: Tokenizer, reference: AutoTokenizer) -> None:
    messages = [
        {"role": "user", "content": "Hi <b>there</b>"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Why?"},
    ]
    expected = reference.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert tokenizer.chat(messages) == expected
    ids = reference.apply_chat_template(messages[:1], add_generation_prompt=True, return_dict=False)
    assert tokenizer.prompt_ids("Hi <b>there</b>", chat=True) == ids


def test_that_a_plain_prompt_is_encoded_as_it_is(tokenizer: Tokenizer) -> None:
    assert tokenizer.prompt_ids("Hi", chat=False) == tokenizer.encode("Hi")


def test_that_a_model_without_template_says_so(tokenizer: Tokenizer) -> None:
    with pytest.raises(BadInput, match="no chat template; turn chat off"):
        Tokenizer(tokenizer.backend, tokenizer.to_bytes).chat([])
