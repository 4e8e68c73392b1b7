"""Puts the window's parts in their places, and their signals to the window's methods."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QSizePolicy, QSplitter, QStatusBar, QToolBar, QVBoxLayout, QWidget

from app.palette_entries import open_models
from widgets.docks.panel import DockPanel
from widgets.theme import GRID

CARDS_WIDTH = 46 * GRID  # the widest card opened, and a scroll bar

if TYPE_CHECKING:
    from app.main_window import Window


def assemble(window: Window) -> None:
    """Header at the top, prompt over streams in the centre, progress at the foot."""
    window.actions_.fill(window.menuBar())
    bar = QToolBar("Run")
    bar.setObjectName("header")
    bar.setMovable(False)
    bar.setContextMenuPolicy(Qt.ContextMenuPolicy.PreventContextMenu)
    window.header.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    bar.addWidget(window.header)
    window.addToolBar(bar)
    window.setContextMenuPolicy(Qt.ContextMenuPolicy.NoContextMenu)
    foot = QStatusBar()
    foot.setSizeGripEnabled(False)
    foot.addWidget(window.progress, 1)
    window.setStatusBar(foot)
    window.setCentralWidget(_centre(window))
    window.cards.setContentsMargins(GRID, 0, GRID // 2, GRID)
    window.cards.setMinimumWidth(CARDS_WIDTH)


def connect(window: Window) -> None:
    """Everything a person does in a part reaches the window here."""
    window.header.model.clicked.connect(partial(open_models, window))
    window.header.repeats.valueChanged.connect(lambda count: setattr(window.session, "repeats", count))
    window.progress.stopped.connect(window.runs.stop)
    for changed in (window.prompt.prompt_changed, window.prompt.chat_changed, window.prompt.inspect_changed):
        changed.connect(lambda _value: window.change_prompt())
    window.prompt.max_new_tokens_changed.connect(window.cards.set_max_new_tokens)
    window.prompt.ids_toggled.connect(lambda _shown: window.actions_.update())
    window.prompt.run_requested.connect(window.runs.run)
    window.cards.config_changed.connect(window.change_config)
    window.cards.config_changed.connect(lambda *_change: _follow_length(window))
    window.cards.added.connect(window.configuration_added)
    window.cards.removed.connect(window.configuration_removed)
    window.cards.current_changed.connect(lambda _column: window.show_model())
    window.model_panel.open_requested.connect(window.open_model)
    window.streams.continue_from.connect(window.runs.continue_from)
    window.history_view.opened.connect(window.open_kept)
    window.history_view.beside.connect(lambda id_: window.open_kept(id_, beside=True))
    window.history_view.failed.connect(window.messages.error)
    for dock in window.docks:
        if isinstance(dock.widget, DockPanel):
            dock.widget.export_requested.connect(window.files.export_chart)
    window.quality.measure_requested.connect(window.runs.measure)
    window.quality.stop_requested.connect(window.runs.stop)
    window.quality.text_requested.connect(window.files.open_text)


def _follow_length(window: Window) -> None:
    window.prompt.follow_max_new_tokens(window.session.configs[0].run.max_new_tokens)


def _centre(window: Window) -> QWidget:
    parts = QSplitter(Qt.Orientation.Vertical)
    parts.setObjectName("centre")
    parts.setChildrenCollapsible(False)
    parts.setHandleWidth(GRID)
    parts.addWidget(window.prompt)
    parts.addWidget(window.streams)
    parts.setStretchFactor(0, 0)
    parts.setStretchFactor(1, 1)
    parts.setSizes([200, 600])
    centre = QWidget()
    column = QVBoxLayout(centre)
    column.setContentsMargins(0, GRID, 0, GRID)
    column.setSpacing(GRID)
    column.addWidget(window.messages)
    column.addWidget(parts, 1)
    return centre
