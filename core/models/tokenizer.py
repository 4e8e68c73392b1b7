"""Text to token ids and back, as the model's own file says. Free of torch and transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import tokenizers

from core.errors import BadInput
from core.models.checkpoint import Checkpoint
from core.models.sentence_pieces import SPACE

if TYPE_CHECKING:
    from core.models.chat_template import Message


def _byte_alphabet() -> dict[str, int]:
    """The printable character that byte-level vocabularies write for each byte, to that byte."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + index): byte for index, byte in enumerate(rest)}


BYTE_ALPHABET = _byte_alphabet()


def byte_level(token: str) -> bytes:
    """The bytes of a token of a byte-level vocabulary; one outside its alphabet stands for itself."""
    try:
        return bytes(map(BYTE_ALPHABET.__getitem__, token))
    except KeyError:
        return token.encode()


def sentence_piece(token: str) -> bytes:
    """The bytes of a SentencePiece token: `<0x0A>` is one byte, `▁` a space."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace(SPACE, " ").encode()


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary with its rules.

    control: ids that mark structure and give no text. added: ids that stand for their own text.
    eos_ids: ids that end a generation. special_tokens: `bos_token`, `eos_token`, … to text, for the chat template.
    leading_space: the encoder puts a space before the text, so decoding takes one away.
    """

    backend: tokenizers.Tokenizer
    to_bytes: Callable[[str], bytes]
    control: frozenset[int] = frozenset()
    added: frozenset[int] = frozenset()
    eos_ids: frozenset[int] = frozenset()
    bos_id: int | None = None
    template: str | None = None
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    leading_space: bool = False
    _pieces: dict[int, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Tokenizer:
        """The tokenizer beside a checkpoint's weights."""
        return open_tokenizer(Path(checkpoint.info.path))

    @property
    def vocabulary_size(self) -> int:
        return int(self.backend.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids. special: add BOS where the file says so; give False for a rendered chat, which brings its own.

        Special tokens written out in `text` become their ids.
        """
        return list(self.backend.encode(text, add_special_tokens=special).ids)

    def prompt_ids(self, prompt: str, chat: bool) -> list[int]:
        """The ids of a prompt as a user's turn of a chat, or as plain text."""
        if not chat:
            return self.encode(prompt)
        return self.encode(self.chat([{"role": "user", "content": prompt}]), special=False)

    def chat(self, messages: Sequence[Message]) -> str:
        """The rendered chat, ready for the model's next turn; BadInput when the model has no chat template."""
        if not self.template:
            raise BadInput("this model has no chat template; turn chat off (--no-chat) to send the prompt as it is")
        from core.models.chat_template import render  # jinja2 takes as long to import as it takes to read a header

        return render(self.template, messages, self.special_tokens)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of whole ids; bytes that form no character become `�`."""
        text = b"".join(map(self.bytes_of, ids)).decode("utf-8", "replace")
        return text[1:] if self.leading_space and text.startswith(" ") else text

    def bytes_of(self, token: int) -> bytes:
        """The bytes that a token adds to a text; none for a control token or an id outside the vocabulary."""
        text = self.backend.id_to_token(token)
        if text is None or token in self.control:
            return b""
        return text.encode() if token in self.added else self.to_bytes(text)

    def piece(self, token: int) -> str:
        """A token as shown to a person: control tokens by name, bytes of an unfinished character as `\\xNN`. Each made once."""
        known = self._pieces.get(token)
        return self._pieces.setdefault(token, self._piece(token)) if known is None else known

    def _piece(self, token: int) -> str:
        if token in self.control:
            return str(self.backend.id_to_token(token))
        return self.bytes_of(token).decode("utf-8", "backslashreplace")


def open_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a `.gguf` file or a model folder; BadInput when it has none or one of an unknown kind."""
    if path.is_dir():
        from core.models.folder_tokenizer import tokenizer_in

        return tokenizer_in(path)
    from core.models.gguf_header import read_header
    from core.models.gguf_tokenizer import tokenizer_of

    return tokenizer_of(read_header(path))
