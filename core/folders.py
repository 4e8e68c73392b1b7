"""Where files outlive the program: models and measurements, settings, and the history of runs."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

_NAME = "inference-playground"


def cache_folder() -> Path:
    """Downloaded models, measurements and the logs of window and engine; INFERENCE_PLAYGROUND_CACHE overrides."""
    return _folder("CACHE", platformdirs.user_cache_dir(_NAME))


def config_folder() -> Path:
    """Settings; INFERENCE_PLAYGROUND_CONFIG overrides."""
    return _folder("CONFIG", platformdirs.user_config_dir(_NAME))


def data_folder() -> Path:
    """The history of runs and their traces; INFERENCE_PLAYGROUND_DATA overrides."""
    return _folder("DATA", platformdirs.user_data_dir(_NAME))


def _folder(kind: str, default: str) -> Path:
    return Path(os.environ.get(f"INFERENCE_PLAYGROUND_{kind}") or default)
