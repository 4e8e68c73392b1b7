"""Every test runs without a display unless one is asked for, and away from the settings and history of whoever runs it.

A GPU is used by the tests in core/cuda alone.
"""

import os
import tempfile

import pytest

from core.cuda import support
from core.cuda.found import missing

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
if missing():
    os.environ["TRITON_INTERPRET"] = "1"  # said before anything imports Triton: without a GPU its kernels are interpreted


@pytest.fixture(scope="session", autouse=True)
def _own_folders():
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("INFERENCE_PLAYGROUND_CONFIG", f"{folder}/config")
        patch.setenv("INFERENCE_PLAYGROUND_DATA", f"{folder}/data")
        yield


@pytest.fixture(scope="session", autouse=True)
def _on_the_processor():
    """What `engine.device=auto` finds here, and in processes that tests start: this one has asked its driver already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(support, "missing", lambda: "this test is of the processor")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield
