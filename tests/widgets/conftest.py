"""A stream on a real widget."""

from __future__ import annotations

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from widgets import theme
from widgets.streams import StreamView


@pytest.fixture
def view(qtbot: QtBot, qapp: QApplication) -> StreamView:
    theme.apply(qapp, "dark")
    made = StreamView()
    made.resize(480, 400)
    qtbot.addWidget(made)
    made.show()
    return made
