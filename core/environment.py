"""What a run ran on: versions, processor, threads. Free of torch, and without anything that names a machine or a person."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from pathlib import Path
from typing import Any

_PACKAGES = (
    "inference-playground", "torch", "transformers", "tokenizers", "numpy", "numba", "gguf", "safetensors", "bitsandbytes",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """Plain JSON: versions, processor, cores, threads used by the run (None before torch is imported), platform, device."""
    return {**_fixed(), "threads": _threads()}


@cache
def _fixed() -> dict[str, Any]:
    versions = {name: _version(name) for name in _PACKAGES}
    return {
        "python": platform.python_version(),
        "versions": {name: found for name, found in versions.items() if found},
        "processor": processor(),
        "cores": cores(),
        "platform": platform.platform(terse=True),
        "device": "cpu",
    }


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def processor() -> str:
    """The processor's name as its maker writes it."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cores() -> int:
    """Logical cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threads() -> int | None:
    torch = sys.modules.get("torch")
    return None if torch is None else int(torch.get_num_threads())
