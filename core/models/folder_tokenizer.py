"""The tokenizer in a model folder: its tokenizer.json, or its SentencePiece vocabulary."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, processors
from tokenizers import Tokenizer as Backend

from core.errors import BadInput
from core.models.sentence_pieces import CONTROL, UNKNOWN, USER_DEFINED
from core.models.sentencepiece_model import read_pieces
from core.models.tokenizer import Tokenizer, byte_level, sentence_piece

_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")


def tokenizer_in(folder: Path) -> Tokenizer:
    """Read the tokenizer of a model folder; BadInput when there is none, or one whose rules are not known here."""
    settings = read_json(folder / "special_tokens_map.json") | read_json(folder / "tokenizer_config.json")
    special = {name: _text(settings[name]) for name in _SPECIAL if settings.get(name)}
    backend, rules = _backend(folder, settings, special)
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


def _backend(folder: Path, settings: Mapping[str, Any], special: Mapping[str, str]) -> tuple[Backend, dict[str, Any]]:
    """The tokenizer, and its rules as tokenizer.json writes them."""
    path = folder / "tokenizer.json"
    try:
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            return Backend.from_str(text), json.loads(text)
        if (folder / "tokenizer.model").is_file():
            backend = _from_pieces(folder, settings, special)
            return backend, json.loads(backend.to_str())
    except BadInput:
        raise
    except Exception as error:  # The tokenizers library raises bare Exceptions for damaged files.
        raise BadInput(f"{folder}: the tokenizer cannot be read: {error}") from None
    raise BadInput(f"{folder}: there is no tokenizer (tokenizer.json, or tokenizer.model of SentencePiece)")


def _from_pieces(folder: Path, settings: Mapping[str, Any], special: Mapping[str, str]) -> Backend:
    """A SentencePiece vocabulary with the tokens that the folder adds to it."""
    gemma = str(settings.get("tokenizer_class", "")).startswith("Gemma")  # whose scores tell nothing
    pieces = read_pieces(folder / "tokenizer.model", by_place=gemma)
    backend = pieces.backend()
    control = [token for token, kind in zip(pieces.tokens, pieces.types, strict=True) if kind in (UNKNOWN, CONTROL)]
    user = [token for token, kind in zip(pieces.tokens, pieces.types, strict=True) if kind == USER_DEFINED]
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    backend.add_tokens([AddedToken(token, normalized=False) for token in user])
    for token, is_special in _later_tokens(folder, settings):
        backend.add_tokens([AddedToken(token, normalized=False, special=is_special)])
    first = [special["bos_token"]] if settings.get("add_bos_token", True) and "bos_token" in special else []
    last = [special["eos_token"]] if settings.get("add_eos_token") and "eos_token" in special else []
    if first or last:
        named = [(token, backend.token_to_id(token)) for token in dict.fromkeys((*first, *last))]
        backend.post_processor = processors.TemplateProcessing(single=[*first, "$A", *last], special_tokens=named)
    return backend


def _later_tokens(folder: Path, settings: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Tokens put after the vocabulary when the model was tuned, in the order of their ids, and whether they are special."""
    found = {int(token): name for name, token in read_json(folder / "added_tokens.json").items()}
    listed = settings.get("added_tokens_decoder") or {}
    later = {token: (name, True) for token, name in found.items()}
    later |= {int(token): (_text(entry), bool(entry.get("special"))) for token, entry in listed.items()}
    return [later[token] for token in sorted(later)]


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
