"""The sums behind a softmax, against float64."""

import numpy as np
import pytest

from core.engine.softmax_sums import softmax_sums


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 1023, 1024, 1025, 3001, 49_152, 151_936])
@pytest.mark.parametrize("spread", [0.0, 0.1, 3.0, 30.0])
def test_that_the_sums_are_those_of_float64(size: int, spread: float) -> None:
    """With some tokens that cannot come, at minus infinity; rows may have gaps between their numbers."""
    draw = np.random.default_rng(size)
    logits = (spread * draw.standard_normal((size, 2)) - 7).astype(np.float32)[:, 0]
    logits[1::5] = -np.inf
    below = logits.astype(np.float64) - logits.max()
    possible = below[np.isfinite(below)]
    peak, total, weighted = softmax_sums(logits)
    assert peak == logits.max()
    assert total == pytest.approx(np.exp(below).sum(), rel=2e-6)
    assert weighted == pytest.approx((possible * np.exp(possible)).sum(), rel=2e-6, abs=1e-30)
