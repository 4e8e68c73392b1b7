"""The list of everything the window can do. One line here is a menu entry, a shortcut and a palette entry."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from app.actions import Command
from app.palette_entries import open_charts, open_hub, open_models, open_palette
from app.session import LETTERS, MOST_COLUMNS
from widgets import theme

if TYPE_CHECKING:
    from app.main_window import Window


def commands(window: Window) -> list[Command]:
    """Every command, in the order of the menus."""
    return [*_file(window), *_run(window), *_configurations(window), *_view(window), *_engine(window)]


def _file(window: Window) -> list[Command]:
    files, menu = window.files, "&File"
    idle, has_run = window.is_idle, window.has_run
    return [
        Command("open_folder", "Open model folder…", menu, files.open_folder, "Open a folder of safetensors", "Ctrl+O",
                "folder", idle),
        Command("open_gguf", "Open GGUF…", menu, files.open_gguf, "Open a .gguf file", "Ctrl+Shift+O", "file", idle),
        Command("open_hub", "Open hub id…", menu, partial(open_hub, window), "Open a model of the Hugging Face hub",
                "Ctrl+Shift+H", "hub", idle),
        Command("recent", "Recent models…", menu, partial(open_models, window), "Models opened lately", "Ctrl+R",
                "recent", idle),
        Command("open_trace", "Open trace…", menu, files.open_trace, "Open up to four saved runs", "Ctrl+T", "open", idle,
                separated=True),
        Command("save_trace", "Save trace…", menu, files.save_trace, "Save a run, to open it again without the model",
                "Ctrl+Shift+S", "save", has_run),
        Command("open_session", "Open session…", menu, files.open_session, "Open prompt and configurations", "", "open", idle),
        Command("save_session", "Save session…", menu, files.save_session, "Save prompt and configurations", "Ctrl+S", "save"),
        Command("export_chart", "Export chart…", menu, partial(open_charts, window),
                "Write a chart as PNG, SVG, PDF, CSV or JSON", "Ctrl+Shift+X", "chart", has_run, separated=True),
        Command("export_report", "Export report…", menu, files.export_report, "Write the run as one HTML page", "Ctrl+Shift+E",
                "report", has_run),
        Command("copy_text", "Copy text", menu, window.copy_text, "Copy what the model wrote", "Ctrl+Shift+C", "copy", has_run),
        Command("quit", "Quit", menu, window.close, "Close the window", "Ctrl+Q", "quit", separated=True),
    ]  # fmt: skip


def _run(window: Window) -> list[Command]:
    menu = "&Run"
    return [
        Command("run", "Run", menu, window.runs.run, "Run every configuration on the prompt", "Ctrl+Enter|Ctrl+Return", "run",
                window.can_run),
        Command("stop", "Stop", menu, window.runs.stop, "Stop what is running", "Esc", "stop", window.is_busy),
        Command("compare", "Compare", menu, window.runs.compare, "Measure the configurations in interleaved repeats",
                "Ctrl+Shift+Enter|Ctrl+Shift+Return", "compare", window.can_run),
        Command("measure", "Measure quality", menu, lambda: window.runs.measure(window.quality.asked()),
                "Perplexity and divergence from the unmodified model, as chosen in the Quality dock",
                "Ctrl+Shift+Q", "chart", window.can_measure),
        Command("continue", "Continue from token", menu, window.runs.continue_from_cursor,
                "Choose another token at the cursor of a stream and go on from there", "Ctrl+J", "continue",
                window.can_continue),
        Command("inspect", "Inspect", menu, window.toggle_inspect,
                "Record attention, routing and alternatives; this costs time, which the run then says", "Ctrl+I", "inspect",
                window.is_idle, lambda: window.session.inspect, separated=True),
    ]  # fmt: skip


def _configurations(window: Window) -> list[Command]:
    menu, session = "&Configurations", window.session
    removals = [
        Command(f"remove_{index}", f"Remove configuration {LETTERS[index]}", menu, partial(window.remove_configuration, index),
                icon="remove", enabled=partial(_removable, window, index), separated=index == 0)
        for index in range(MOST_COLUMNS)
    ]  # fmt: skip
    return [
        Command("add", "Add configuration", menu, window.add_configuration, "Add a copy of the last one to compare with",
                "Ctrl+N", "add", lambda: window.is_idle() and len(session.columns) < MOST_COLUMNS),
        *removals,
    ]  # fmt: skip


def _removable(window: Window, index: int) -> bool:
    return window.is_idle() and 1 < len(window.session.columns) > index


def _view(window: Window) -> list[Command]:
    menu = "&View"
    themes = [
        Command(f"theme_{mode}", f"Theme: {mode}", menu, partial(window.use_theme, mode), icon="theme",
                checked=partial(_is_theme, mode), separated=mode == "dark")
        for mode in theme.MODES
    ]  # fmt: skip
    docks = [
        Command(f"show_{dock.name}", dock.title, menu, partial(window.docks.raise_dock, dock.name),
                f"Show the dock {dock.title}", f"Alt+{index}" if index < 10 else "", "dock", separated=index == 1)
        for index, dock in enumerate(window.docks, 1)
    ]  # fmt: skip
    return [
        Command("palette", "Command palette…", menu, partial(open_palette, window), "Find anything that can be done",
                "Ctrl+Shift+P", "palette"),
        Command("ids", "Show token ids", menu, window.toggle_ids, "Show the exact ids that the model reads", "Ctrl+Shift+I",
                "ids", checked=window.shows_ids),
        *docks,
        *themes,
        Command("reset_layout", "Reset layout", menu, window.docks.reset, "Put every dock back in its place", icon="layout",
                separated=True),
    ]  # fmt: skip


def _is_theme(mode: str) -> bool:
    return theme.mode() == mode


def _engine(window: Window) -> list[Command]:
    return [
        Command("restart", "Restart engine", "&Run", window.runs.restart_engine, "End the engine's process and start a new one",
                "Ctrl+Shift+R", "restart", separated=True)
    ]  # fmt: skip
