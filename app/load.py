"""How much of the processor is taken, by whatever runs. Free of Qt."""

from __future__ import annotations

import os
from statistics import fmean

import psutil


class Load:
    """The share of the cores' time, of those that this process may use, that was taken since the last `measure`."""

    def __init__(self) -> None:
        self.share = 0.0
        self.measure()

    def measure(self) -> None:
        """Begin anew; `share` is of the time since the last call."""
        taken = psutil.cpu_percent(percpu=True)
        allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(taken))
        self.share = fmean(percent for core, percent in enumerate(taken) if core in allowed) / 100
