"""Code as it would be compiled for other processors."""

from __future__ import annotations

import pytest

from core.compiled.jit import summing_lanes
from core.weights.kernel import product


def sum_products_in(lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test ends, products, and kernels made by their `__wrapped__` functions, sum so many lanes at once."""
    if lanes > summing_lanes():
        pytest.skip(f"this processor does not sum {lanes} lanes in one instruction")
    monkeypatch.setattr("core.weights.kernel.summing_lanes", lambda: lanes)
    monkeypatch.setattr("core.weights.packed.product", product.__wrapped__)
