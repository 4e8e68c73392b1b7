"""Models the window knows: what their headers say, their tokenizers, and which to offer. Free of Qt and torch."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from core.errors import BadInput
from core.models.find import available, describe, is_hub_id
from core.models.info import ModelInfo
from core.models.tokenizer import Tokenizer, open_tokenizer


class Models:
    """Descriptions by name and tokenizers by path, each read once; tokenizers on a thread of their own."""

    def __init__(self) -> None:
        self._infos: dict[str, ModelInfo] = {}
        self._pool = ThreadPoolExecutor(1, "tokenizer")
        self._tokenizers: dict[str, Future[Tokenizer]] = {}

    def info(self, name: str) -> ModelInfo | None:
        """What the headers say; None for a model that is not on this machine yet or cannot be read."""
        if name not in self._infos:
            try:
                self._infos[name] = describe(name)
            except BadInput:
                return None
        return self._infos[name]

    def open(self, name: str) -> ModelInfo | None:
        """Describe a model anew. None for one that is fetched when it runs; BadInput for one that cannot be."""
        self._infos.pop(name, None)
        if name == "default" or is_hub_id(name):
            return self.info(name)
        self._infos[name] = describe(name)
        return self._infos[name]

    def tokenizer(self, name: str) -> Tokenizer | None:
        """The model's tokenizer once it has been read; None until then, and for a model that has none to read here."""
        info = self.info(name)
        if info is None:
            return None
        if info.path not in self._tokenizers:
            self._tokenizers[info.path] = self._pool.submit(_warm_tokenizer, Path(info.path))
        future = self._tokenizers[info.path]
        if not future.done() or isinstance(future.exception(), BadInput):
            return None
        return future.result()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(cancel_futures=True)

    def known(self, recent: list[str]) -> list[str]:
        """Names to offer: recent ones first, then what lies in the cache."""
        return list(dict.fromkeys([*recent, "default", *(model.name for model in available())]))


def _warm_tokenizer(path: Path) -> Tokenizer:
    """With its chat template compiled, so that the window waits for neither."""
    tokenizer = open_tokenizer(path)
    with suppress(BadInput):
        tokenizer.prompt_ids("", chat=True)
    return tokenizer


def pieces(tokenizer: Tokenizer, text: str, chat: bool) -> list[tuple[int, str]]:
    """Id and text of each token that the model would read. Raises BadInput when the model has no chat template."""
    return [(token, tokenizer.piece(token)) for token in tokenizer.prompt_ids(text, chat)]
