"""Drawing for a process that holds the engine: Qt gets a process of its own, since torch and Qt never share one."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from core.charts.labelled import Labelled
from core.compare import Comparison


def export_report_apart(traces: Labelled, path: Path, comparison: Comparison | None = None) -> None:
    """As app.exports.export_report, which it calls in a fresh process; raises what that raises."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(_export_report, traces, path, comparison).result()


def _export_report(traces: Labelled, path: Path, comparison: Comparison | None) -> None:
    from app import qt

    with qt.offscreen():
        from app.exports import export_report

        export_report(traces, path, comparison)
