"""The tokenizer in a model folder: its tokenizer.json, or what transformers makes of a SentencePiece file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from core.errors import BadInput
from core.models.tokenizer import Tokenizer, byte_level, sentence_piece

_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")


def tokenizer_in(folder: Path) -> Tokenizer:
    """Read the tokenizer of a model folder; BadInput when there is none, or one whose rules are not known here."""
    text = _tokenizer_json(folder)
    try:
        backend, rules = Backend.from_str(text), json.loads(text)
    except Exception as error:  # The tokenizers library raises bare Exceptions for damaged files.
        raise BadInput(f"{folder / 'tokenizer.json'}: not a readable tokenizer: {error}") from None
    settings = read_json(folder / "special_tokens_map.json") | read_json(folder / "tokenizer_config.json")
    special = {name: _text(settings[name]) for name in _SPECIAL if settings.get(name)}
    steps = list(_steps(rules.get("decoder")))
    added = {int(token["id"]): bool(token.get("special")) for token in rules.get("added_tokens") or []}
    return Tokenizer(
        backend,
        _to_bytes(steps, folder),
        control=frozenset(token for token, is_special in added.items() if is_special),
        added=frozenset(token for token, is_special in added.items() if not is_special),
        eos_ids=_ends(folder, backend, special),
        bos_id=backend.token_to_id(special["bos_token"]) if "bos_token" in special else None,
        template=chat_template_in(folder),
        special_tokens=special,
        leading_space=not steps or any(_takes_space(step) for step in steps),
    )


def chat_template_in(folder: Path) -> str | None:
    """The chat template of a model folder, or None."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, Mapping)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty when there is no such file; BadInput when it holds anything else."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BadInput(f"{path}: not a readable JSON file: {error}") from None
    if not isinstance(data, dict):
        raise BadInput(f"{path}: holds {type(data).__name__}, not a JSON object")
    return data


def _tokenizer_json(folder: Path) -> str:
    path = folder / "tokenizer.json"
    if path.is_file():
        return path.read_text(encoding="utf-8", errors="replace")
    if not any((folder / name).is_file() for name in ("tokenizer.model", "vocab.json", "tekken.json")):
        raise BadInput(f"{folder}: there is no tokenizer (tokenizer.json or tokenizer.model)")
    return _converted(folder)


def _converted(folder: Path) -> str:
    from transformers import AutoTokenizer

    try:
        return str(AutoTokenizer.from_pretrained(folder, local_files_only=True).backend_tokenizer.to_str())
    except Exception as error:  # Whatever transformers cannot read, it says in many kinds of exception.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInput(f"{folder}: transformers cannot read the tokenizer: {reason}") from None


def _steps(decoder: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """The decoder's steps, with sequences laid flat."""
    if not decoder:
        return
    if decoder.get("type") != "Sequence":
        yield decoder
    for step in decoder.get("decoders") or []:
        yield from _steps(step)


def _to_bytes(steps: list[Mapping[str, Any]], folder: Path) -> Callable[[str], bytes]:
    kinds = {str(step.get("type")) for step in steps}
    if "ByteLevel" in kinds:
        return byte_level
    if kinds & {"ByteFallback", "Metaspace", "Replace"}:
        return sentence_piece
    if not kinds:
        return _word
    raise BadInput(f"{folder / 'tokenizer.json'}: the decoder {', '.join(sorted(kinds))} is not known here")


def _word(token: str) -> bytes:
    """Without a decoder, tokens are words."""
    return b" " + token.encode()


def _takes_space(step: Mapping[str, Any]) -> bool:
    """Whether a decoder step removes the space that the encoder put first."""
    if step.get("type") == "Strip":
        return step.get("content") == " " and int(step.get("start", 0)) > 0
    return step.get("type") == "Metaspace" and step.get("prepend_scheme") != "never"


def _ends(folder: Path, backend: Backend, special: Mapping[str, str]) -> frozenset[int]:
    """Ids that end a generation: generation_config.json says, else config.json and the tokenizer's own EOS."""
    said = read_json(folder / "generation_config.json").get("eos_token_id")
    if said is None:
        said = read_json(folder / "config.json").get("eos_token_id")
        own = backend.token_to_id(special["eos_token"]) if "eos_token" in special else None
        said = [*(said if isinstance(said, list) else [said]), own]
    ids = said if isinstance(said, list) else [said]
    return frozenset(token for token in ids if isinstance(token, int))


def _text(token: Any) -> str:
    return str(token["content"]) if isinstance(token, Mapping) and "content" in token else str(token)
