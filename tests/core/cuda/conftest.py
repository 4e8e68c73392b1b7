"""Where the tests of the GPU path run: on a GPU where there is one, else on the processor with Triton's interpreter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from core.cuda import found, support

HAS_GPU = torch.cuda.is_available()
SHOWN = os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.fixture(scope="module", autouse=True)
def _where_it_is_there() -> Iterator[None]:
    """Undo what tests/conftest.py does for all others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(support, "missing", found.missing)
        if SHOWN is None:
            patch.delenv("CUDA_VISIBLE_DEVICES")
        else:
            patch.setenv("CUDA_VISIBLE_DEVICES", SHOWN)
        yield


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    """The GPU; skips the test without one."""
    if not HAS_GPU:
        pytest.skip("no CUDA device")
    return torch.device("cuda")


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where Triton's kernels can be called."""
    return torch.device("cuda" if HAS_GPU else "cpu")


@pytest.fixture(scope="session")
def fused() -> Any:
    """The operations in Triton; without a GPU they are interpreted (tests/conftest.py)."""
    pytest.importorskip("triton", reason="triton is not installed; torch for CUDA brings it")
    from core.cuda.fused import Fused

    return Fused()


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the processor flex attention runs as it is; torch would trace it first, to warn that this is slow."""
    monkeypatch.setattr("torch.nn.attention.flex_attention._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
