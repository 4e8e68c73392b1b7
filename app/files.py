"""Opening and saving: models, traces, sessions, charts and reports, by dialog, by drop and by path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QFileDialog

from app import session as session_file
from app.docks import comparison
from app.exports import export_chart, export_report
from app.failures import during
from app.session import LETTERS
from core import trace_file
from core.charts.chart import Chart
from core.errors import BadInput
from widgets.palette import Entry

if TYPE_CHECKING:
    from app.main_window import Window

TRACE_SUFFIX = ".trace"
_TRACES = f"Recorded runs (*{TRACE_SUFFIX})"
_SESSIONS = "Sessions (*.json)"
_CHARTS = (
    "PNG image (*.png);;SVG drawing (*.svg);;PDF document (*.pdf);;CSV table (*.csv);;JSON data (*.json);;HTML page (*.html)"
)


class Files:
    """The window's files. Methods that end in `_from` or `_to` take the path; the others ask for it."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self.folder = str(Path.home())  # where the last dialog ended

    # Models

    def open_folder(self) -> None:
        if path := QFileDialog.getExistingDirectory(self._window, "Open model folder", self.folder):
            self._remember(path)
            self._window.open_model(path)

    def open_gguf(self) -> None:
        if path := self._ask_open("Open GGUF", "GGUF models (*.gguf)"):
            self._window.open_model(str(path))

    # Anything that was dropped, or named on the command line

    def open_from(self, paths: Sequence[Path]) -> None:
        """Traces are opened side by side; else the first path is a session or a model. Raises BadInput."""
        traces = [path for path in paths if path.suffix == TRACE_SUFFIX]
        if traces:
            self.open_traces_from(traces)
        elif paths[0].suffix == ".json" and paths[0].is_file():
            self.open_session_from(paths[0])
        else:
            self._window.open_model(str(paths[0]))

    # Traces

    def open_trace(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(self._window, "Open trace", self.folder, _TRACES)
        if paths:
            self._remember(paths[0])
            self._window.attempt(lambda: self.open_traces_from([Path(path) for path in paths]))

    def open_traces_from(self, paths: Sequence[Path]) -> None:
        """Show up to four traces side by side once they are read; one that is damaged is said, and changes nothing.

        Raises BadInput for more of them, and while something else goes on.
        """
        if len(paths) > len(LETTERS):
            raise BadInput(f"{len(paths)} traces are too many: at most {len(LETTERS)} stand side by side")
        name = paths[0].name if len(paths) == 1 else f"{len(paths)} traces"
        self._window.open_runs(name, [partial(trace_file.load, path) for path in paths], self._window.show_traces)

    def save_trace(self) -> None:
        """Of the only run there is, or of one that is chosen."""
        self._choose_run("Save the trace of", self._save_trace)

    def _save_trace(self, column: int) -> None:
        if path := self._ask_save("Save trace", _TRACES, f"{LETTERS[column]}{TRACE_SUFFIX}"):
            self._window.attempt(lambda: self.save_trace_to(column, path))

    def save_trace_to(self, column: int, path: Path) -> None:
        """Raises RunFailed when the file cannot be written."""
        trace = self._window.session.columns[column].trace
        if trace is None:
            raise BadInput(f"configuration {LETTERS[column]} has no run to save")
        trace_file.save(trace, path)
        self._window.messages.inform(f"The run of {LETTERS[column]} is saved in {path}")

    # Sessions

    def open_session(self) -> None:
        if path := self._ask_open("Open session", _SESSIONS):
            self._window.attempt(lambda: self.open_session_from(path))

    def open_session_from(self, path: Path) -> None:
        """Raises BadInput when the file is not a session."""
        self._window.show_session(session_file.read(path))

    def save_session(self) -> None:
        if path := self._ask_save("Save session", _SESSIONS, "session.json"):
            self._window.attempt(lambda: self.save_session_to(path))

    def save_session_to(self, path: Path) -> None:
        """Raises RunFailed when the file cannot be written."""
        self._window.session.save(path)
        self._window.messages.inform(f"The session is saved in {path}")

    # Texts

    def open_text(self) -> None:
        """The file that quality is measured on."""
        if path := self._ask_open("Text to measure on", "Text (*.txt *.md *.rst);;Any file (*)"):
            self._window.quality.set_text(str(path))

    # Exports

    def export_chart(self, chart: Chart) -> None:
        if path := self._ask_save("Export chart", _CHARTS, f"{chart.name}.png"):
            self._window.attempt(lambda: self.export_chart_to(chart, path))

    def export_chart_to(self, chart: Chart, path: Path) -> None:
        """In the format that the suffix names. Raises as `export_chart` does."""
        export_chart(chart, self._window.labelled(), path)
        self._window.messages.inform(f"The chart “{chart.title}” is written to {path}")

    def export_report(self) -> None:
        if path := self._ask_save("Export report", "HTML page (*.html)", "report.html"):
            self._window.attempt(lambda: self.export_report_to(path))

    def export_report_to(self, path: Path) -> None:
        """One self-contained page on every run that is shown. Raises RunFailed when it cannot be written."""
        with during("the report could not be exported"):
            export_report(self._window.labelled(), path, comparison(self._window.session))
        self._window.messages.inform(f"The report is written to {path}")

    # Asking

    def _choose_run(self, what: str, then: Callable[[int], None]) -> None:
        columns = [index for index, column in enumerate(self._window.session.columns) if column.trace is not None]
        if len(columns) == 1:
            then(columns[0])
        else:
            choices = [Entry(f"{what} {LETTERS[index]}", partial(then, index)) for index in columns]
            self._window.palette_panel.open(choices, "Run to save")

    def _ask_open(self, title: str, kinds: str) -> Path | None:
        path, _ = QFileDialog.getOpenFileName(self._window, title, self.folder, kinds)
        self._remember(path)
        return Path(path) if path else None

    def _ask_save(self, title: str, kinds: str, name: str) -> Path | None:
        """The chosen path, with the suffix of the chosen kind when it was left out."""
        path, kind = QFileDialog.getSaveFileName(self._window, title, str(Path(self.folder) / name), kinds)
        if not path:
            return None
        self._remember(path)
        suffix = kind.rpartition("*")[2].rstrip(")")
        return Path(path) if Path(path).suffix else Path(path).with_suffix(suffix)

    def _remember(self, path: str) -> None:
        if path:
            self.folder = str(Path(path).parent)
