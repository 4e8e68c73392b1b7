"""Whether Qt can be used here, and what is missing where it cannot. Imports Qt only when asked to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import RunFailed

# What the Qt of the wheels links to, by Debian's names.
LIBRARIES = (
    "libdbus-1-3", "libegl1", "libfontconfig1", "libfreetype6", "libgl1", "libglib2.0-0", "libwayland-client0",
    "libwayland-cursor0", "libx11-6", "libx11-xcb1", "libxcb-cursor0", "libxcb-glx0", "libxcb-icccm4", "libxcb-image0",
    "libxcb-keysyms1", "libxcb-randr0", "libxcb-render-util0", "libxcb-render0", "libxcb-shape0", "libxcb-shm0",
    "libxcb-sync1", "libxcb-util1", "libxcb-xfixes0", "libxcb-xkb1", "libxcb1", "libxkbcommon-x11-0", "libxkbcommon0",
    "libzstd1",
)  # fmt: skip
FONTS = "fonts-dejavu-core"
_PROBE = "from PySide6 import QtSvg, QtWidgets; QtWidgets.QApplication([])"
_PLATFORM = "QT_QPA_PLATFORM"


def has_display() -> bool:
    """Whether there is a screen to show a window on, or a platform was chosen that needs none."""
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", _PLATFORM))


def why_not(platform: str | None = None) -> str:
    """Why Qt cannot start here (on this platform plugin), in one line; empty when it can. Tried in a process of its own."""
    environment = os.environ if platform is None else {**os.environ, _PLATFORM: platform}
    tried = subprocess.run([sys.executable, "-c", _PROBE], env=environment, capture_output=True, text=True, check=False)
    if tried.returncode == 0:
        return ""
    lines = [line for line in tried.stderr.splitlines() if line.strip()] or [f"it ends with code {tried.returncode}"]
    return next((line for line in lines if "Error: " in line), lines[0])


def has_fonts() -> bool:
    """Whether there is any font for text."""
    if shutil.which("fc-list"):
        return bool(subprocess.run(["fc-list"], capture_output=True, check=False).stdout.strip())
    return any(any(folder.rglob("*.[to]tf")) for folder in (Path("/usr/share/fonts"), Path.home() / ".local/share/fonts"))


def install_command() -> tuple[str, ...]:
    """Installs what Qt needs on Debian and its relatives; empty elsewhere."""
    if not shutil.which("apt-get"):
        return ()
    fonts = () if has_fonts() else (FONTS,)
    return ("apt-get", "install", "-y", "--no-upgrade", "--no-install-recommends", *LIBRARIES, *fonts)


def remedy() -> str:
    """What a person can do about missing libraries."""
    command = install_command()
    return (
        f"install its libraries: sudo {' '.join(command)}"
        if command
        else "install the libraries that Qt 6 needs on this system"
    )


def load() -> None:
    """Import Qt; RunFailed says what is missing."""
    try:
        from PySide6 import QtSvg, QtWidgets  # noqa: F401
    except ImportError as error:
        raise RunFailed(f"Qt cannot load ({error}); {remedy()}") from None


@contextmanager
def offscreen() -> Iterator[None]:
    """An application that shows nothing, for pictures. Raises RunFailed when Qt cannot load."""
    os.environ[_PLATFORM] = "offscreen"
    load()
    from PySide6.QtWidgets import QApplication

    application = QApplication.instance() or QApplication([])
    yield
    application.processEvents()
