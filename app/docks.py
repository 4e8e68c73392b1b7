"""The docks of the window: which there are, where they start, and what they are given to show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from PySide6.QtWidgets import QWidget

from app.dock_area import Dock, Place
from app.history_view import HistoryView
from app.session import LETTERS, Session
from core.charts.chart import Chart
from core.compare import Comparison, summarise
from core.config import RunConfig
from core.models.info import ModelInfo
from core.trace import Trace
from widgets.cards import ConfigurationsColumn
from widgets.docks.attention import AttentionDock
from widgets.docks.cache import CacheDock
from widgets.docks.comparison import ComparisonDock
from widgets.docks.experts import ExpertsDock
from widgets.docks.latency import LatencyDock
from widgets.docks.memory import MemoryDock
from widgets.docks.panel import DockPanel
from widgets.docks.quality import QualityDock
from widgets.docks.speculation import SpeculationDock

PLANNED_PROMPT = 32  # tokens that a prompt which was never read is taken to have


def make_docks(cards: ConfigurationsColumn, model: QWidget, quality: QualityDock, history: HistoryView) -> list[Dock]:
    """Every dock, in the order of its tabs."""
    return [
        Dock("configurations", "Configurations", cards, "left"),
        _charts("attention", "Attention", AttentionDock(), "upper"),
        _charts("experts", "Experts", ExpertsDock(), "upper"),
        _charts("speculation", "Speculation", SpeculationDock(), "upper"),
        _charts("cache", "KV cache", CacheDock(), "upper"),
        Dock("model", "Model", model, "upper"),
        _charts("latency", "Latency", LatencyDock(), "lower"),
        _charts("memory", "Memory", MemoryDock(), "lower"),
        _charts("quality", "Quality", quality, "lower"),
        _charts("comparison", "Comparison", ComparisonDock(), "lower"),
        Dock("history", "History", history, "lower", history.refresh),
    ]


def _charts(name: str, title: str, panel: DockPanel, place: Place) -> Dock:
    return Dock(name, title, panel, place, panel.refresh)


def labelled(session: Session) -> list[tuple[str, Trace]]:
    """The runs that are shown, each with its letter."""
    return [(letter, column.trace) for letter, column in zip(LETTERS, session.columns) if column.trace is not None]


def comparison(session: Session) -> Comparison | None:
    """Of the measured repeats; None where there was no comparison of what is shown."""
    fewest = min(len(column.repeats) for column in session.columns)
    if not fewest:
        return None
    inspected = [[column.trace] if column.trace is not None else [] for column in session.columns]
    return summarise([[*first, *column.repeats[:fewest]] for first, column in zip(inspected, session.columns)])


def show_runs(docks: Sequence[Dock], session: Session) -> None:
    """Give every dock the session's runs."""
    repeats = [(letter, column.repeats) for letter, column in zip(LETTERS, session.columns)]
    for dock in docks:
        if isinstance(dock.widget, DockPanel):
            dock.widget.set_traces(labelled(session))
        if isinstance(dock.widget, ComparisonDock):
            dock.widget.set_repeats(repeats)


def show_plan(docks: Sequence[Dock], config: RunConfig, info: ModelInfo | None, prompt_tokens: int) -> None:
    """Tell the docks that draw before a run which configuration it would have. prompt_tokens: 0 where not known yet."""
    for dock in docks:
        if isinstance(dock.widget, CacheDock):
            dock.widget.set_config(config, info)
        if isinstance(dock.widget, AttentionDock):
            dock.widget.set_config(config, info, (prompt_tokens or PLANNED_PROMPT) + config.run.max_new_tokens)


def charts_of(docks: Iterable[Dock]) -> list[Chart]:
    """The charts that these docks show."""
    return [chart for dock in docks if isinstance(dock.widget, DockPanel) for chart in dock.widget.charts()]
