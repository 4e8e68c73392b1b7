"""KV cache: how many tokens it holds, how many bytes these take, and how many KV heads share them."""

from __future__ import annotations

from collections.abc import Hashable

from PySide6.QtWidgets import QWidget

from core.charts.chart import Chart
from core.charts.heads import bytes_of, groups_of, heads_bytes, heads_groups
from core.charts.memory import kv_growth, kv_tokens
from core.config import RunConfig
from core.models.info import ModelInfo
from widgets.docks.panel import DockPanel

_TABS = {"tokens": "Tokens held", "bytes": "Bytes", "groups": "KV heads", "heads": "Bytes a token"}


class CacheDock(DockPanel):
    """Tokens held after each pass, so that what a cache drops is seen, their bytes, and what KV heads or latents take of them.

    Before a run the last two show the configuration of `set_config`.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(_TABS, parent)
        self._planned: tuple[RunConfig | None, ModelInfo | None] = None, None

    def set_config(self, config: RunConfig, info: ModelInfo | None) -> None:
        """What a run would use now."""
        self._planned = config, info
        self.refresh()

    def _state(self) -> Hashable:
        return super()._state(), self._planned[0], id(self._planned[1])

    def chart_of(self, key: str) -> Chart:
        match key:
            case "tokens":
                return kv_tokens(self.traces)
            case "bytes":
                return kv_growth(self.traces)
            case "groups":
                return heads_groups(self.traces) if self._has_run else groups_of(*self._planned)
            case _:
                return heads_bytes(self.traces) if self._has_run else bytes_of(*self._planned)

    @property
    def _has_run(self) -> bool:
        return bool(self.traces) and self.traces[0][1].started is not None
