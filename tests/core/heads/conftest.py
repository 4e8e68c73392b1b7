"""What is learned of a model goes into a folder of the test's own."""

from pathlib import Path

import pytest


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERENCE_PLAYGROUND_CACHE", str(tmp_path / "cache"))
