"""The job of the window where there is no display: two configurations compared, in the terminal and in a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from app.cli.compare import LETTERS, record_of, report, run_all, write_report
from app.cli.terminal import note, say, write_json
from core import trace_file
from core.compare import summarise
from core.config import RunConfig
from core.errors import RunFailed
from core.events import INSPECT, RunRequest

FOLDER = Path("demo-output")
REPEATS = 3
PROMPT = """Copy this list:
1. Prefill reads the whole prompt at once, so it is bound by arithmetic.
2. Decode reads all weights for every token, so it is bound by memory.
3. A draft that is verified in one pass yields several tokens for one reading."""
LIMITS = ["run.max_new_tokens=96"]
SPECULATIVE = ["decoding.name=prompt_lookup", "decoding.draft_tokens=6"]


def run() -> int:
    """Compare plain decoding with prompt lookup: the same tokens, from fewer passes over the weights."""
    note("There is no display here, so the same job is done without the window.")
    folder = FOLDER.resolve()
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise RunFailed(f"{folder}: cannot be made: {(error.strerror or str(error)).lower()}") from None
    say(f"Prompt: {PROMPT}\n")
    configs = [RunConfig().set(LIMITS), RunConfig().set([*LIMITS, *SPECULATIVE])]
    runs = run_all([RunRequest(config, PROMPT, inspect=INSPECT) for config in configs], REPEATS)
    comparison = summarise(runs)
    say(report(comparison, runs))
    traces = [folder / f"{letter}.trace" for letter in LETTERS[: len(runs)]]
    for column, path in zip(runs, traces, strict=True):
        trace_file.save(column[0], path)
    write_json(record_of(runs, comparison), folder / "comparison.json")
    write_report(runs, comparison, folder / "report.html")
    _picture(traces, folder / "window.png")
    say(f"\nWritten to {folder}: report.html, window.png, comparison.json, {', '.join(path.name for path in traces)}")
    say("With a display, `make run` opens the window.")
    return 0


def _picture(traces: list[Path], path: Path) -> None:
    """Of the real window, in a process of its own: Qt and the engine never share one."""
    shown = [argument for trace in traces for argument in ("--trace", str(trace))]
    command = [sys.executable, "-m", "app", "screenshot", *shown, "--dock", "speculation", "--out", str(path)]
    if subprocess.run(command, check=False).returncode:
        raise RunFailed(f"{path}: the picture of the window was not written")
