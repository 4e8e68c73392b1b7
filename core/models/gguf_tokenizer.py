"""The tokenizer that a GGUF file's metadata describes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import AddedToken, decoders, models, processors
from tokenizers import Tokenizer as Backend

from core.errors import BadInput
from core.models.gguf_header import Header, Strings
from core.models.pretokenizers import pre_tokenizer
from core.models.sentence_pieces import CONTROL, SPACE, UNKNOWN, USER_DEFINED, Pieces
from core.models.tokenizer import Tokenizer, byte_level, sentence_piece

_SPECIAL = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
_GEMMA = ("gemma", "gemma2", "gemma3")


def tokenizer_of(header: Header) -> Tokenizer:
    """Build the tokenizer; BadInput when the file has none, or one whose rules are not known here."""
    return _Builder(header).tokenizer()


class _Builder:
    def __init__(self, header: Header) -> None:
        self.header = header
        self.model = self.get("model")
        self.architecture = str(header.metadata.get("general.architecture"))
        self.tokens = self.strings("tokens")
        types = self.get("token_type")
        self.types = types if types is not None else np.ones(len(self.tokens), dtype=np.int32)
        if not isinstance(self.types, np.ndarray) or len(self.types) != len(self.tokens):
            raise self.bad("tokenizer.ggml.token_type does not give one type for each token")

    def tokenizer(self) -> Tokenizer:
        try:
            backend, begins = self.backend()
        except BadInput:
            raise
        except Exception as error:  # The tokenizers library raises bare Exceptions for inconsistent vocabularies.
            raise self.bad(f"the vocabulary is inconsistent: {error}") from None
        user = [token for token in self.ids_of_type(USER_DEFINED) if backend.token_to_id(self.tokens[token]) == token]
        self.add_special(backend, user)
        self.post_process(backend, begins)
        template = self.header.metadata.get("tokenizer.chat_template")
        ends = (self.id_of(name) for name in ("eos", "eot", "eom"))
        named = {key: self.id_of(name) for key, name in _SPECIAL.items()}
        return Tokenizer(
            backend,
            byte_level if self.model == "gpt2" else sentence_piece,
            control=self.ids_of_type(CONTROL, UNKNOWN),
            added=frozenset(user),
            eos_ids=frozenset(end for end in ends if end is not None),
            bos_id=self.id_of("bos"),
            template=template if isinstance(template, str) else None,
            special_tokens={key: self.tokens[token] for key, token in named.items() if token is not None},
            leading_space=self.model == "llama" and self.adds_space(),
        )

    def backend(self) -> tuple[Backend, bool]:
        """The bare tokenizer, and whether BOS is added unless the file says otherwise."""
        if self.model == "gpt2":
            return self.byte_level()
        if self.model == "llama":
            return self.sentence_piece(), True
        raise self.bad(f"the tokenizer model {self.model!r} is not known here; gpt2 (byte-level) and llama (SentencePiece) are")

    def byte_level(self) -> tuple[Backend, bool]:
        kind = pre_tokenizer(str(self.get("pre", "missing")))
        merges = [(left, right) for left, _, right in (merge.partition(" ") for merge in self.strings("merges"))]
        backend = Backend(
            models.BPE({token: index for index, token in enumerate(self.tokens)}, merges, ignore_merges=kind.whole_words)
        )
        backend.pre_tokenizer = kind.build()
        backend.decoder = decoders.ByteLevel()
        return backend, kind.begins

    def sentence_piece(self) -> Backend:
        tokens = self.tokens
        if self.architecture in _GEMMA:
            # Files write gemma's tokens of several spaces with real spaces, which its normalizer would never find.
            tokens = [SPACE * len(token) if token.strip(" ") == "" and len(token) > 1 else token for token in tokens]
        return Pieces(tokens, self.ranks(tokens), self.types, self.id_of("unknown"), self.adds_space()).backend()

    def ranks(self, tokens: Sequence[str]) -> Sequence[float]:
        """Smaller merges first: by score, but by place in the vocabulary for gemma, whose scores tell nothing."""
        scores = self.get("scores")
        if self.architecture in _GEMMA:
            return range(len(tokens))
        if not isinstance(scores, np.ndarray) or len(scores) != len(tokens):
            raise self.bad("tokenizer.ggml.scores does not give one score for each token")
        return [-float(score) for score in scores]

    def add_special(self, backend: Backend, user: Sequence[int]) -> None:
        control = [self.tokens[token] for token in sorted(self.ids_of_type(CONTROL))]
        backend.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in control])
        backend.add_tokens([AddedToken(self.tokens[token], normalized=False) for token in sorted(user)])

    def post_process(self, backend: Backend, begins: bool) -> None:
        bos, eos = self.id_of("bos"), self.id_of("eos")
        first = [bos] if bos is not None and self.get("add_bos_token", begins) else []
        last = [eos] if eos is not None and self.get("add_eos_token", False) else []
        if first or last:
            names = {self.tokens[token]: token for token in (*first, *last)}
            template = [*(self.tokens[token] for token in first), "$A", *(self.tokens[token] for token in last)]
            backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=list(names.items()))

    def adds_space(self) -> bool:
        return bool(self.get("add_space_prefix", self.architecture not in _GEMMA))

    def ids_of_type(self, *types: int) -> frozenset[int]:
        return frozenset(np.flatnonzero(np.isin(self.types, types)).tolist())

    def id_of(self, name: str) -> int | None:
        token = self.get(f"{name}_token_id")
        return token if isinstance(token, int) and 0 <= token < len(self.tokens) else None

    def strings(self, key: str) -> list[str]:
        value = self.get(key)
        if not isinstance(value, Strings) or not value.count:
            raise self.bad(f"tokenizer.ggml.{key} is missing, so the file has no whole tokenizer")
        return value.read()

    def get(self, key: str, default: Any = None) -> Any:
        return self.header.metadata.get(f"tokenizer.ggml.{key}", default)

    def bad(self, reason: str) -> BadInput:
        return BadInput(f"{self.header.path}: {reason}")
