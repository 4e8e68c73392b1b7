"""Where fetched models are kept."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def model_folder() -> Path:
    """The folder of fetched models; INFERENCE_PLAYGROUND_CACHE takes the place of the user's cache folder."""
    root = os.environ.get("INFERENCE_PLAYGROUND_CACHE") or platformdirs.user_cache_dir("inference-playground")
    return Path(root) / "models"
