"""What must be there before the first start: the default model, and the libraries that Qt needs."""

from __future__ import annotations

import os
import subprocess
import sys

from app import qt
from app.cli.outcome import exit_code_of
from app.cli.terminal import ProgressLine, note
from core.errors import RunFailed
from core.models.default import fetch_default, is_fetched

_NO_DISPLAY = "could not connect to display"  # as Qt says it


def prepare(for_window: bool = False) -> None:
    """Fetch the default model, and see that Qt can start, on the display too where the window is to open.

    Raises PlaygroundError with what a person can do.
    """
    if not is_fetched():
        _fetch()
    _see_to_qt(for_window)


def _fetch() -> None:
    """The hash is checked before the model gets its name; what was cut short is fetched anew."""
    note("Fetching the default model, once (98 MB)")
    line = ProgressLine(plain=True)
    try:
        path = fetch_default(line.show)
    finally:
        line.clear()
    note(f"The default model is in {path}")


def _see_to_qt(for_window: bool) -> None:
    """Install the system's libraries where this may be done and can help."""
    reason, command = _why_not(for_window), qt.install_command()
    if reason and command and os.geteuid() == 0 and _NO_DISPLAY not in reason:
        note(f"Qt cannot start yet ({reason}); installing what it needs")
        _install(command)
        reason = _why_not(for_window)
    if _NO_DISPLAY in reason:
        raise RunFailed(f"the window cannot open ({reason}); unset DISPLAY and WAYLAND_DISPLAY to do without one")
    if reason:
        raise RunFailed(f"Qt cannot start ({reason}); {qt.remedy()}")


def _why_not(for_window: bool) -> str:
    no_fonts = "" if qt.has_fonts() else "there is no font on this system"
    return qt.why_not("offscreen") or no_fonts or (qt.why_not() if for_window else "")


def _install(command: tuple[str, ...]) -> None:
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (("apt-get", "update"), command):
        if subprocess.run(step, env=quiet, stdout=sys.stderr, check=False).returncode:
            raise RunFailed(f"{' '.join(step)} failed; {qt.remedy()}")


def _main() -> int:
    prepare()
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(_main))
