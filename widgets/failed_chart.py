"""What stands in the place of a chart that could not be made or drawn."""

from __future__ import annotations

import logging
from pathlib import Path

from core.charts.chart import Chart
from core.folders import cache_folder

_log = logging.getLogger(__name__)


def log_file() -> Path:
    """Where the window writes errors in full."""
    return cache_folder() / "window.log"


def failed(name: str, title: str, error: Exception) -> Chart:
    """Says in one sentence what failed; the error itself is logged."""
    _log.error("the chart %s", name, exc_info=error)
    first = next(iter(str(error).splitlines()), "")
    said = f"This chart failed: {type(error).__name__}: {first}. Please report it with what stands in {log_file()}."
    return Chart(name, title, "unavailable", "", empty=said)
