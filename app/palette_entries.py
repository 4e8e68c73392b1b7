"""The command palette and what it offers: every command, every technique for every configuration, models, charts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtGui import QIcon

from app.actions import Command
from app.docks import charts_of
from app.header import facts
from app.session import LETTERS
from core.charts.chart import Chart, has_data
from core.compatibility import refused_techniques, with_technique
from core.config import RunConfig
from core.models.find import is_hub_id
from core.techniques import CATALOGUE
from widgets import icons, theme
from widgets.palette import Entry

if TYPE_CHECKING:
    from app.main_window import Window


def open_palette(window: Window) -> None:
    """Everything there is to do."""
    window.palette_panel.open(entries(window))


def open_hub(window: Window) -> None:
    """For a hub id to be typed."""
    window.palette_panel.open((), "Hub id, such as HuggingFaceTB/SmolLM2-360M-Instruct", partial(hub_entries, window))


def open_models(window: Window) -> None:
    """The models to choose from."""
    window.palette_panel.open(model_entries(window), "Model: a name, or open one from disk")


def open_charts(window: Window) -> None:
    """The charts that can be exported."""
    window.palette_panel.open(chart_entries(window, charts_of(window.docks.visible())), "Chart to export")


def entries(window: Window) -> list[Entry]:
    """Everything that can be done now."""
    window.actions_.update()
    made = [
        Entry(
            command.text, command.call, command.help, command.shown_shortcut, icons.icon(command.icon) if command.icon else None
        )
        for command in window.actions_
        if window.actions_[command.name].isEnabled()
    ]
    return [*made, *technique_entries(window)] if window.is_idle() else made


def technique_entries(window: Window) -> list[Entry]:
    """A technique for a configuration, where the two can go together."""
    made = []
    for column, config in enumerate(window.session.configs):
        info = window.models.info(config.model)
        refused = refused_techniques(config, info)
        for family, rows in CATALOGUE.items():
            for name, technique in rows.items():
                if (family, name) not in refused and config.choice(family).name != name:
                    changed = partial(with_technique, config, family, name, info)
                    call = partial(_use, window, column, changed)
                    made.append(Entry(f"{LETTERS[column]}: {family} {name}", call, technique.summary, icon=_mark(family)))
    return made


def model_entries(window: Window) -> list[Entry]:
    """Models opened lately and those in the cache; several configurations can each take one."""
    names = window.models.known(window.settings.recent_models)
    sign = icons.icon("model")
    made = [Entry(_shown(name), partial(window.open_model, name), _facts(window, name), icon=sign) for name in names]
    if len(window.session.columns) > 1:
        made += [
            Entry(f"{LETTERS[column]}: {_shown(name)}", partial(window.open_model, name, column), icon=sign)
            for column in range(len(window.session.columns))
            for name in names
        ]
    return [*made, *(_of(window.actions_.command(name)) for name in ("open_folder", "open_gguf", "open_hub"))]


def hub_entries(window: Window, typed: str) -> list[Entry]:
    """The hub id as far as it is typed."""
    if not is_hub_id(typed):
        return []
    return [Entry(f"Open {typed}", partial(window.open_model, typed), "fetched when it runs", icon=icons.icon("hub"))]


def chart_entries(window: Window, charts: Sequence[Chart]) -> list[Entry]:
    """The charts that can be seen and show something."""
    return [
        Entry(f"Export {chart.title}", partial(window.files.export_chart, chart), chart.definition, icon=icons.icon("chart"))
        for chart in charts
        if has_data(chart)
    ]


def _of(command: Command) -> Entry:
    sign = icons.icon(command.icon) if command.icon else None
    return Entry(command.text, command.call, command.help, command.shown_shortcut, sign)


def _use(window: Window, column: int, changed: Callable[[], RunConfig]) -> None:
    configs = list(window.session.configs)
    configs[column] = changed()
    window.change_config(column, configs[column])
    window.cards.set_configs(configs, column)


def _mark(family: str) -> QIcon:
    return icons.icon("dot", theme.family_colour(family).name())


def _shown(name: str) -> str:
    return name if is_hub_id(name) else name.replace("\\", "/").rstrip("/").rpartition("/")[2] or name


def _facts(window: Window, name: str) -> str:
    info = window.models.info(name)
    if info is not None:
        return facts(info)
    return "fetched when it runs" if is_hub_id(name) or name == "default" else "not found"
