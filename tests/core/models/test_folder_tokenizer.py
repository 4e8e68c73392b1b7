"""Tokenizers of model folders, held to what transformers makes of the same files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from core.errors import BadInput
from core.models.find import describe
from core.models.tokenizer import Tokenizer, open_tokenizer

_SETTINGS = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEMPLATE = "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}{% endfor %}<|assistant|>"


def trained(backend: Backend) -> Backend:
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "</s>", "<unk>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    backend.train_from_iterator([Path(__file__).read_text(encoding="utf-8")], trainer)
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return backend


def byte_level() -> Backend:
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return trained(backend)


def spaced() -> Backend:
    backend = Backend(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return trained(backend)


@pytest.fixture(params=[byte_level, spaced])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=request.param(), bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=TEMPLATE
    )
    tokenizer.add_tokens(["<think>"])
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


@_SETTINGS
@given(text=st.text(" abcdef(\"':\n_.") | st.sampled_from(["<think>x</s>", "  two", "def f(x): return 1"]))
def test_that_ids_and_text_are_those_of_transformers(text: str, folder: Path) -> None:
    ours, reference = open_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert ours.encode(text) == reference(text).input_ids
    assert ours.encode(text, special=False) == reference(text, add_special_tokens=False).input_ids
    ids = ours.encode(text)
    assert ours.decode(ids) == reference.decode(ids, skip_special_tokens=True)


def test_that_a_chat_is_that_of_transformers_with_one_bos(folder: Path) -> None:
    ours, reference = open_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "def f"}]
    expected = reference.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ours.prompt_ids("def f", chat=True) == expected
    assert expected.count(0) == 1


def test_that_special_tokens_are_known(folder: Path) -> None:
    tokenizer = open_tokenizer(folder)
    assert (tokenizer.bos_id, tokenizer.eos_ids) == (0, {1})
    assert tokenizer.piece(0) == "<s>"
    assert tokenizer.bytes_of(0) == b""
    think = tokenizer.encode("<think>", special=False)[-1]
    assert tokenizer.bytes_of(think) == b"<think>"
    assert tokenizer.vocabulary_size == think + 1


def test_that_the_generation_config_says_what_ends_a_text(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"eos_token_id": [5, 6]}))
    assert open_tokenizer(folder).eos_ids == {1, 5, 6}
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 8]}))
    assert open_tokenizer(folder).eos_ids == {7, 8}


def template_of(folder: Path) -> str | None:
    return open_tokenizer(folder).template


def test_that_templates_are_found_where_they_are_kept(folder: Path) -> None:
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    for value, expected in (
        ("one", "one"),
        ([{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}], "yes"),
        ([{"name": "tool_use", "template": "no"}], None),
        (None, None),
    ):
        (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": value}))
        assert template_of(folder) == expected
    (folder / "chat_template.jinja").write_text("file")
    assert template_of(folder) == "file"


def test_that_a_tokenizer_without_decoder_joins_words_by_spaces(tmp_path: Path) -> None:
    backend = Backend(models.WordLevel({"hello": 0, "world": 1, "?": 2}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = open_tokenizer(tmp_path)
    assert tokenizer.decode(tokenizer.encode("hello world")) == backend.decode([0, 1]) == "hello world"


def test_that_an_unknown_decoder_is_refused_by_name(tmp_path: Path) -> None:
    backend = Backend(models.WordPiece({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece()
    backend.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(BadInput, match="the decoder WordPiece is not known here"):
        open_tokenizer(tmp_path)


def test_that_a_folder_without_tokenizer_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no tokenizer"):
        open_tokenizer(tmp_path)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff\xfe", b'{"model": {"type": "BPE"}}'])
def test_that_a_damaged_tokenizer_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(data)
    with pytest.raises(BadInput, match="the tokenizer cannot be read"):
        open_tokenizer(tmp_path)


def test_that_damaged_settings_are_refused(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(BadInput, match=r"tokenizer_config\.json: not a readable JSON file"):
        open_tokenizer(folder)


def test_that_a_description_says_whether_there_is_a_chat_template(folder: Path) -> None:
    from tiny_models import tiny_model

    tiny_model("llama").save_pretrained(folder)
    assert describe(str(folder)).chat_template == TEMPLATE


def test_that_bytes_join_to_the_decoded_text(folder: Path) -> None:
    tokenizer: Tokenizer = open_tokenizer(folder)
    ids = tokenizer.encode("return one", special=False)
    assert b"".join(map(tokenizer.bytes_of, ids)).decode().removeprefix(" ") == "return one"
