"""The main window: configurations at the left, prompt and streams in the centre, docks at the right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QPaintEvent
from PySide6.QtWidgets import QApplication, QMainWindow

from app.actions import Actions
from app.assembly import assemble, connect
from app.commands import commands
from app.dock_area import DockArea
from app.docks import labelled, make_docks, show_plan, show_runs
from app.effects import needed, show_effects
from app.engine_client import EngineClient
from app.failures import contained
from app.files import Files
from app.header import Header
from app.history import History
from app.history_view import HistoryView
from app.keeper import Keeper
from app.models import Models
from app.opener import Opener, Read, Show
from app.persistence import restore, store
from app.pulse import Pulse
from app.run_control import RunControl
from app.runner import Runner
from app.session import LETTERS, Session
from app.settings import Settings
from core.config import RunConfig
from core.errors import BadInput, PlaygroundError
from core.trace import Trace
from widgets import icons, theme
from widgets.cards import ConfigurationsColumn
from widgets.docks.quality import QualityDock
from widgets.model_panel import ModelPanel
from widgets.palette import Palette
from widgets.prompt import PromptView
from widgets.streams import StreamsView
from widgets.strips import MessageStrip, ProgressStrip

SIZE, LEAST = (1600, 1000), (1024, 640)


class Window(QMainWindow):
    """Shows one session; talks to one engine process; keeps every finished run in the history."""

    def __init__(self, session: Session, engine: EngineClient, history: History, settings: Settings) -> None:
        super().__init__()
        self.session, self.engine, self.settings = session, engine, settings
        self.setWindowTitle("Inference Playground")
        self.setWindowIcon(icons.app_icon())
        self.setMinimumSize(*LEAST)
        self.resize(*SIZE)
        self.setAcceptDrops(True)
        self.runner, self.models, self.keeper, self.opener = Runner(session, engine), Models(), Keeper(history), Opener()
        self.history, self.files, self.runs = history, Files(self), RunControl(self)
        self.messages, self.progress = MessageStrip(), ProgressStrip()
        self.cards, self.prompt, self.streams = ConfigurationsColumn(), PromptView(), StreamsView()
        self.model_panel, self.history_view, quality = ModelPanel(), HistoryView(history), QualityDock()
        self.quality = quality.controls
        self.docks = DockArea(self, make_docks(self.cards, self.model_panel, quality, self.history_view))
        self.actions_ = Actions(self, commands(self))
        self.header = Header(self.actions_, session.repeats)
        self.palette_panel = Palette(self)
        assemble(self)
        connect(self)
        self._shown: list[int] = []
        self.pulse = Pulse(self)
        self.show_session(session)
        restore(self)

    # What is open

    def show_session(self, session: Session) -> None:
        """Show another prompt, other configurations and their runs. Raises BadInput while a run goes on."""
        self.need_idle()
        for name, value in vars(session).items():
            setattr(self.session, name, value)
        self.cards.set_configs(session.configs, 0)
        self.prompt.set_prompt(session.prompt)
        self.prompt.set_chat(session.chat)
        self.prompt.set_inspect(session.inspect)
        self.prompt.set_max_new_tokens(session.configs[0].run.max_new_tokens)
        self.header.repeats.setValue(session.repeats)
        self._show_runs()  # before the plan, which the docks draw where there is no run
        self.show_model()

    def show_traces(self, traces: Sequence[Trace]) -> None:
        """Recorded runs side by side, in place of what is open. Raises BadInput while a run goes on."""
        self.need_idle()
        self.session.show(list(traces))
        self.show_session(self.session)

    def open_kept(self, id_: int, beside: bool = False) -> None:
        """A run of the history in A, or in a configuration of its own."""

        def show(traces: list[Trace]) -> None:
            self.session.open_run(traces[0], beside)
            self.show_session(self.session)

        self.attempt(lambda: self.open_runs("a run of the history", [partial(self.keeper.open, id_)], show))

    def open_runs(self, name: str, reads: Sequence[Read], show: Show) -> None:
        """Read recorded runs beside the window, and show them. Raises BadInput while something else goes on."""
        self.need_idle()
        self.opener.begin(name, reads, show)
        self.pulse.job_began()
        self.show_status()

    def open_model(self, name: str, column: int | None = None) -> None:
        """Every configuration, or one, on another model."""

        def use() -> None:
            self.need_idle()
            self.models.open(name)
            self.session.use_model(name, column)
            self.settings.remember_model(name)
            self.messages.clear()
            self.show_session(self.session)

        self.attempt(use)

    def labelled(self) -> list[tuple[str, Trace]]:
        return labelled(self.session)

    # What can be done now

    def need_idle(self) -> None:
        """Raise BadInput while a run goes on, which what is to be opened would take the place of."""
        if self.runner.busy:
            raise BadInput("a run is going on: stop it first (Esc), or wait for its end")

    def is_idle(self) -> bool:
        return not self.is_busy()

    def is_busy(self) -> bool:
        return self.runner.busy or self.opener.busy

    def can_run(self) -> bool:
        return self.can_measure() and bool(self.session.prompt.strip())

    def can_measure(self) -> bool:
        return self.is_idle() and self.engine.state != "dead"

    def has_run(self) -> bool:
        return bool(self.labelled())

    def can_continue(self) -> bool:
        return self.is_idle() and self.has_run()

    def shows_ids(self) -> bool:
        return self.prompt.shows_ids()

    def prompt_is_counted(self) -> bool:
        """Whether the tokenizer has been read, where there is one to read."""
        return self.pulse.counts_tokens or self.models.info(self.session.columns[0].config.model) is None

    # Showing

    def follow_runs(self, first_token: bool = False) -> None:
        """Take in what is new of the runs; give them to the views where another took its place."""
        if self._shown != [id(trace) for trace in self.session.traces]:
            self._show_runs()
        contained(self.streams.refresh)
        if first_token:
            self.streams.repaint_now()
        self.docks.refresh()

    def _show_runs(self) -> None:
        """Give the runs to every view; called when a run takes the place of another."""
        self._shown = [id(trace) for trace in self.session.traces]
        self.streams.set_traces(self.session.traces)
        show_runs(list(self.docks), self.session)
        self.quality.set_columns(LETTERS[: len(self.session.columns)])
        self.actions_.update()

    def show_model(self) -> None:
        """The model of the configuration that is shown."""
        config = self.session.columns[self.cards.current].config
        info = self.models.info(config.model)
        self.header.model.show_model(config.model, info)
        self.cards.set_info(info)
        self.model_panel.set_info(info)
        self.model_panel.set_recent(self.settings.recent_models)
        self.plan()
        self.actions_.update()

    def plan(self) -> None:
        """What a run would do as things stand: predictions on the cards, the pattern in the Attention dock."""
        show_effects(self)
        config = self.session.columns[min(self.cards.current, len(self.session.columns) - 1)].config
        info, prompt_tokens = self.models.info(config.model), len(self.session.prompt_tokens())
        show_plan(list(self.docks), config, info, prompt_tokens)
        self.model_panel.set_estimate(needed(config, info, prompt_tokens))

    def show_status(self) -> None:
        """What is going on, and what can be done now."""
        status = self.opener.status if self.opener.busy else self.runner.status
        if self.is_busy():
            self.progress.busy(status.text, status.share, status.seconds_left)
        else:
            self.progress.idle(status.text)
        self.quality.set_busy(self.is_busy())
        self.actions_.update()

    # Configurations

    def change_config(self, column: int, config: RunConfig) -> None:
        """A card was edited."""
        self.session.columns[column].config = config
        self.plan()

    def add_configuration(self) -> None:
        self.cards.add_copy()

    def remove_configuration(self, index: int) -> None:
        self.cards.show_column(index)
        self.cards.remove_current()

    def configuration_added(self, config: RunConfig) -> None:
        self.session.add_column(config)
        self._show_runs()
        self.plan()

    def configuration_removed(self, index: int) -> None:
        self.session.remove_column(index)
        self._show_runs()
        self.plan()

    # Looks

    def use_theme(self, mode: theme.Mode) -> None:
        app = QApplication.instance()
        if isinstance(app, QApplication):
            theme.apply(app, mode)
        self.settings.theme = mode
        self.actions_.update()

    def toggle_inspect(self) -> None:
        self.prompt.inspect_box.toggle()

    def toggle_ids(self) -> None:
        self.prompt.show_ids(not self.prompt.shows_ids())

    def change_prompt(self) -> None:
        """The prompt was edited, or how it is sent."""
        self.session.prompt, self.session.chat = self.prompt.prompt(), self.prompt.chat()
        self.session.inspect = self.prompt.inspect()
        self.actions_.update()

    def copy_text(self) -> None:
        """What the models wrote; with its letter where there are several."""
        texts = [f"{letter}: {trace.text}" if len(self.labelled()) > 1 else trace.text for letter, trace in self.labelled()]
        QApplication.clipboard().setText("\n\n".join(texts))
        self.messages.inform("The text is on the clipboard.")

    def attempt(self, call: Callable[[], object]) -> None:
        """Call, and say in place what went wrong."""
        try:
            call()
        except PlaygroundError as error:
            self.messages.error(str(error))

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if any(url.isLocalFile() for url in event.mimeData().urls()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        self.attempt(lambda: self.files.open_from(paths))
        event.acceptProposedAction()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Work that can wait begins once the window has been seen, so that nothing takes the processor from opening it."""
        super().paintEvent(event)
        self.pulse.start()

    def closeEvent(self, event: QCloseEvent) -> None:
        self.pulse.stop()
        store(self)
        for part in (self.engine, self.keeper, self.opener, self.models):
            part.close()
        event.accept()
