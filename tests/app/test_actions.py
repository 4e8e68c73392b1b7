"""Actions are registered once and reach the menu, the shortcut and buttons from there."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QMainWindow

from app.actions import Actions, Command


@pytest.fixture
def made(qtbot):
    window, called, state = QMainWindow(), [], {"enabled": True, "on": False}
    qtbot.addWidget(window)
    actions = Actions(
        window,
        [
            Command("run", "Run", "Run", lambda: called.append("run"), "Run it", "Ctrl+Return|Ctrl+Enter", "run",
                    enabled=lambda: state["enabled"]),
            Command("ids", "Show token ids", "View", lambda: state.update(on=not state["on"]), checked=lambda: state["on"]),
        ],
    )  # fmt: skip
    window.show()
    return window, actions, called, state


def test_that_a_shortcut_calls_the_command(qtbot, made):
    window, _, called, _ = made
    window.activateWindow()
    qtbot.keyClick(window, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert called == ["run"]


def test_that_menus_and_tooltips_come_from_the_registration(made):
    window, actions, _, _ = made
    menus = actions.fill(window.menuBar())
    assert list(menus) == ["Run", "View"]
    assert actions["run"].toolTip() == "Run it (Ctrl+Return)"


def test_that_update_disables_the_action_and_its_button(made):
    _, actions, _, state = made
    button = actions.button("run", "primary", "Run")
    state["enabled"] = False
    actions.update()
    assert not button.isEnabled()
    assert button.accessibleName() == "Run"


def test_that_a_switch_shows_its_state_after_a_click(qtbot, made):
    _, actions, _, state = made
    button = actions.button("ids")
    qtbot.addWidget(button)
    button.click()
    actions.update()
    assert state["on"]
    assert button.isChecked()


def test_that_two_commands_cannot_share_a_name(qtbot):
    window = QMainWindow()
    qtbot.addWidget(window)
    command = Command("a", "A", "", lambda: None)
    with pytest.raises(ValueError, match="two commands"):
        Actions(window, [command, command])
