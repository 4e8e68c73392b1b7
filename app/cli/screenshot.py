"""Take a picture of the window."""

from __future__ import annotations

import os
import re
from argparse import ArgumentParser, Namespace
from pathlib import Path
from tempfile import TemporaryDirectory

from app import qt
from app.cli.arguments import check_outputs
from app.settings import Settings
from core import trace_file
from core.errors import BadInput

_SMALLEST, _LARGEST = 480, 8192  # pixels a side


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--trace", type=Path, action="append", default=[], metavar="FILE", help="show this recorded run; give up to four"
    )
    parser.add_argument("--dock", default="", metavar="NAME", help="bring this dock to the front")
    parser.add_argument("--theme", choices=("light", "dark"), default="light")
    parser.add_argument("--size", default="1600x1000", metavar="WIDTHxHEIGHT")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.png")


def call(arguments: Namespace) -> int:
    path: Path = arguments.out
    check_outputs(path)
    if path.suffix.lower() != ".png":
        raise BadInput(f"{path}: a picture of the window is a .png")
    size = _size(arguments.size)
    if len(arguments.trace) > 4:
        raise BadInput(f"--trace: at most four runs stand side by side, not {len(arguments.trace)}")
    traces = [trace_file.load(trace) for trace in arguments.trace]
    with TemporaryDirectory() as folder, qt.offscreen():
        # The picture is that of a fresh window, and closing it must not overwrite what the person's own window remembers.
        os.environ["INFERENCE_PLAYGROUND_CONFIG"] = folder
        from app.screenshot import grab
        from app.window import application, build_window
        from widgets import theme

        theme.apply(application(), arguments.theme)
        window = build_window(Settings(theme=arguments.theme), None, traces)
        try:
            grab(window, path, size, arguments.dock)
        finally:
            window.close()
    return 0


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if found is None or not all(_SMALLEST <= int(side) <= _LARGEST for side in found.groups()):
        raise BadInput(f"--size {text}: write width x height in pixels, each {_SMALLEST} to {_LARGEST}, such as 1600x1000")
    return int(found[1]), int(found[2])
