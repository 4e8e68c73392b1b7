"""Models the window knows: what their headers say, and which were opened lately. Free of Qt."""

from __future__ import annotations

from core.errors import BadInput
from core.models.find import available, describe, is_hub_id
from core.models.info import ModelInfo


class Models:
    """Descriptions by name, read once."""

    def __init__(self) -> None:
        self._infos: dict[str, ModelInfo] = {}

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

    def known(self, recent: list[str]) -> list[str]:
        """Names to offer: recent ones first, then what lies in the cache."""
        return list(dict.fromkeys([*recent, "default", *(model.name for model in available())]))
