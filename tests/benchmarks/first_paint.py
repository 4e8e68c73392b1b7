"""Runs `python -m app` and prints the monotonic clock when its window has been painted for the first time; then closes it."""

import runpy
import sys
from time import monotonic

from PySide6.QtCore import QEvent, QObject, QTimer
from PySide6.QtWidgets import QApplication, QMainWindow


class Watch(QObject):
    """Waits for the first paint of a main window."""

    waiting = True

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if self.waiting and event.type() == QEvent.Type.Paint and isinstance(watched, QMainWindow):
            self.waiting = False
            QTimer.singleShot(0, self._painted)  # when all that the window holds has been painted too
        return False

    def _painted(self) -> None:
        print(monotonic(), flush=True)
        QApplication.closeAllWindows()


if __name__ == "__main__":
    application, watch = QApplication(sys.argv[:1]), Watch()
    application.installEventFilter(watch)
    runpy.run_module("app", run_name="__main__", alter_sys=True)
