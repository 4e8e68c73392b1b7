"""The window without a run: what is open, actions, palette, layout, themes, files, and what goes wrong."""

import json

import pytest
from PySide6.QtCore import QEvent, QMimeData, QObject, QPointF, Qt, QUrl
from PySide6.QtGui import QDropEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit, QPlainTextEdit, QWidget

from app import screenshot
from app.session import Session
from app.settings import Settings
from app.window import application, build_window
from core import trace_file
from core.config import RunConfig
from core.errors import BadInput
from tests.app.windows import shown_window, wait_for, wait_idle
from tests.traces import make_trace
from widgets import theme

SPECULATING = RunConfig().set(["decoding.name=prompt_lookup", "ffn.name=moefy"])
DOCKS = ("attention", "experts", "speculation", "cache", "model", "latency", "memory", "quality", "comparison", "history")


@pytest.fixture(scope="module")
def traces():
    return make_trace(), make_trace(SPECULATING, seed=3, diverges_at=20)


@pytest.fixture
def window(qtbot, tmp_path, traces):
    with shown_window(qtbot, tmp_path, traces=traces) as window:
        yield window


def test_that_traces_stand_side_by_side_with_their_prompt_and_configurations(window, traces):
    assert [view.trace for view in window.streams.columns] == list(traces)
    assert window.prompt.prompt() == traces[0].started.prompt
    assert window.cards.configs()[1] == SPECULATING


def test_that_the_engine_starts_once_the_window_is_painted(qtbot, tmp_path, traces):
    hidden = build_window(Settings(), traces=traces)
    QTest.qWait(300)
    assert hidden.engine.pid is None
    hidden.close()
    with shown_window(qtbot, tmp_path, traces=traces) as shown:
        wait_for(qtbot, lambda: shown.engine.pid is not None)


@pytest.mark.parametrize("dock", DOCKS)
def test_that_every_dock_can_be_brought_to_the_front(qtbot, window, dock):
    window.actions_[f"show_{dock}"].trigger()
    qtbot.waitUntil(lambda: dock in {one.name for one in window.docks.visible()})


def test_that_only_docks_that_can_be_seen_are_drawn(qtbot, window):
    qtbot.waitUntil(lambda: {dock.name for dock in window.docks.visible()} == {"configurations", "attention", "latency"})
    assert window.docks["memory"].deck["parts"].chart.title == ""
    window.actions_["show_memory"].trigger()
    qtbot.waitUntil(lambda: window.docks["memory"].deck["parts"].chart.title != "")
    assert "latency" not in {dock.name for dock in window.docks.visible()}


def test_that_every_control_has_a_name_and_a_tooltip_or_text(window):
    kinds = (QAbstractButton, QComboBox, QLineEdit, QAbstractSpinBox, QPlainTextEdit)
    for control in (one for kind in kinds for one in window.findChildren(kind)):
        if control.isVisible() and not control.objectName().startswith("qt_"):
            text = control.text() if isinstance(control, QAbstractButton) else ""
            assert control.accessibleName() or text, f"{control} in {control.parent()} has no name"


def test_that_no_two_actions_share_a_shortcut(window):
    shortcuts = [key for command in window.actions_ for key in command.shortcuts]
    assert len(shortcuts) == len(set(shortcuts))


def test_that_the_palette_finds_commands_techniques_and_docks(qtbot, window):
    window.actions_["palette"].trigger()
    panel = window.palette_panel
    qtbot.keyClicks(panel.field, "B: cache static")
    assert panel.list.item(0).text() == "B: cache static"
    qtbot.keyClick(panel.field, Qt.Key.Key_Return)
    assert window.session.configs[1].cache.name == "static"
    assert window.cards.configs()[1].cache.name == "static"
    assert window.session.configs[0].cache.name == "dynamic"


def test_that_configurations_are_added_and_removed_everywhere(window):
    window.actions_["add"].trigger()
    assert len(window.session.columns) == len(window.streams.columns) == len(window.cards.configs()) == 3
    window.actions_["remove_1"].trigger()
    assert len(window.session.columns) == len(window.streams.columns) == 2
    assert window.session.configs == (RunConfig(), RunConfig())


def test_that_the_length_beside_the_prompt_is_that_of_the_card(qtbot, window):
    box, editor = window.prompt.length.lineEdit(), window.cards.panel.cards["run"].form.editor("max_new_tokens").lineEdit()
    for field, other, length in ((editor, box, 77), (box, editor, 55)):
        field.selectAll()
        qtbot.keyClicks(field, str(length))
        assert other.text() == str(length)
        assert window.session.configs[0].run.max_new_tokens == length
    box.selectAll()
    qtbot.keyClicks(box, "0")
    assert box.text() == "0"
    assert "stays in use" in window.prompt.problem.text()


def test_that_theme_changes_reach_every_widget_at_once(window):
    before = window.grab().toImage().pixelColor(5, 5)
    window.actions_["theme_light"].trigger()
    after = window.grab().toImage().pixelColor(5, 5)
    assert before.lightness() < 64 < 192 < after.lightness()
    assert window.actions_["theme_light"].isChecked()
    assert window.settings.theme == "light"
    theme.apply(screenshot.QCoreApplication.instance(), "dark")


def test_that_the_layout_and_the_session_outlive_the_window(qtbot, tmp_path, traces):
    with shown_window(qtbot, tmp_path, traces=traces) as first:
        first.docks.frame("memory").close()
        first.prompt.editor.setPlainText("another prompt")
        first.resize(1300, 900)
        settings = first.settings
    with shown_window(qtbot, tmp_path) as second:
        second.settings = settings
        from app.persistence import restore
        from app.window import _last

        restore(second)
        second.show_session(_last(settings))
        assert second.prompt.prompt() == "another prompt"
        assert not second.docks.frame("memory").isVisible()
        second.actions_["reset_layout"].trigger()
        assert second.docks.frame("memory").isVisibleTo(second)


def test_that_a_session_is_saved_and_opened(window, tmp_path):
    path = tmp_path / "two.json"
    window.prompt.editor.setPlainText("kept")
    window.files.save_session_to(path)
    window.show_session(Session(prompt="gone"))
    assert len(window.streams.columns) == 1
    window.files.open_from([path])
    assert window.prompt.prompt() == "kept"
    assert window.cards.configs()[1] == SPECULATING


def test_that_a_trace_is_saved_and_dropped_on_the_window_again(qtbot, window, tmp_path, traces):
    path = tmp_path / "run.trace"
    window.files.save_trace_to(1, path)
    _drop(window, path)
    wait_idle(qtbot, window)
    assert [column.config for column in window.session.columns] == [SPECULATING]
    assert window.streams.columns[0].trace.text == traces[1].text


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("broken.trace", b"not a zip", "not a trace"),
        ("empty.gguf", b"", "empty.gguf"),
        ("weights.bin", b"\x80\x02", "pickle"),
        ("other.json", b"{}", "not a session"),
    ],
)
def test_that_a_wrong_file_is_said_in_place_and_changes_nothing(qtbot, window, tmp_path, traces, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    _drop(window, path)
    wait_idle(qtbot, window)
    assert window.messages.isVisible()
    assert said in window.messages.text.text()
    assert window.session.traces == traces
    assert all(config.model == "default" for config in window.session.configs)


def test_that_a_folder_without_weights_is_refused_in_place(window, tmp_path):
    window.open_model(str(tmp_path))
    assert window.messages.kind == "error"
    assert str(tmp_path) in window.messages.text.text()


def test_that_a_configuration_that_cannot_work_is_refused_before_the_run(window):
    wrong = RunConfig().set(["decoding.name=prompt_lookup", "cache.name=rolling"])
    window.session.columns[1].config = wrong
    window.runs.run()
    assert window.messages.text.text().startswith("B: decoding.name=prompt_lookup")
    assert not window.is_busy()


def test_that_runs_and_comparisons_need_a_prompt(window):
    window.prompt.editor.setPlainText("  ")
    assert not window.actions_["run"].isEnabled()
    window.prompt.editor.setPlainText("Hello")
    assert window.actions_["run"].isEnabled()


def test_that_the_prompt_counts_its_tokens_once_the_tokenizer_is_read(qtbot, window):
    if window.models.info("default") is None:
        pytest.skip("the default model is not fetched")
    wait_for(qtbot, lambda: "tokens" in window.prompt.count.text())


def test_that_charts_that_can_be_seen_are_offered_for_export(qtbot, window, tmp_path):
    window.actions_["export_chart"].trigger()
    offered = [window.palette_panel.list.item(row).text() for row in range(window.palette_panel.list.count())]
    assert any("Attention" in text for text in offered)
    chart = window.docks["latency"].charts()[0]
    for suffix in ("png", "svg", "pdf", "csv", "json", "html"):
        path = tmp_path / f"chart.{suffix}"
        window.files.export_chart_to(chart, path)
        assert path.stat().st_size > 200
    window.files.export_report_to(tmp_path / "report.html")
    assert "<svg" in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "chart.json").read_text())
    qtbot.keyClick(window.palette_panel.field, Qt.Key.Key_Escape)


def test_that_an_export_that_cannot_be_written_is_said_in_place(window, tmp_path):
    chart = window.docks["latency"].charts()[0]
    window.attempt(lambda: window.files.export_chart_to(chart, tmp_path / "no" / "chart.png"))
    assert "there is no folder" in window.messages.text.text()


def test_that_the_text_is_copied(window, traces):
    window.actions_["copy_text"].trigger()
    copied = screenshot.QCoreApplication.instance().clipboard().text()
    assert copied == f"A: {traces[0].text}\n\nB: {traces[1].text}"


@pytest.mark.parametrize("size", [(1600, 1000), (1100, 700)])
def test_that_a_picture_of_the_window_has_the_size_asked_for(window, tmp_path, size):
    path = tmp_path / "window.png"
    screenshot.grab(window, path, size, "quality")
    image = screenshot.QImage(str(path))
    assert (image.width(), image.height()) == size
    assert "quality" in {dock.name for dock in window.docks.visible()}


def test_that_an_unknown_dock_is_named_with_those_there_are(window, tmp_path):
    with pytest.raises(BadInput, match="attention"):
        screenshot.grab(window, tmp_path / "x.png", (1600, 1000), "nothing")


def test_that_many_traces_cannot_be_opened_at_once(window, tmp_path):
    paths = [tmp_path / f"{n}.trace" for n in range(5)]
    trace_file.save(make_trace(inspect=False), paths[0])
    with pytest.raises(BadInput, match="at most 4"):
        window.files.open_traces_from(paths)


def _drop(window: QWidget, path) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    event = QDropEvent(
        QPointF(10, 10), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    )
    window.dropEvent(event)


def test_that_nothing_but_the_window_is_ever_a_window(qtbot, tmp_path, traces):
    shown = []

    class Watch(QObject):
        def eventFilter(self, watched: QObject, event: QEvent) -> bool:
            if event.type() == QEvent.Type.Show and isinstance(watched, QWidget) and watched.isWindow():
                shown.append(type(watched).__name__)
            return False

    watch = Watch()
    application().installEventFilter(watch)
    with shown_window(qtbot, tmp_path, traces=traces) as window:
        for name in ("add", "remove_1", "show_comparison", "ids", "palette"):
            window.actions_[name].trigger()
        window.show_traces(traces[:1])
        assert window.isActiveWindow()
    application().removeEventFilter(watch)
    assert shown == ["Window"]
