"""How what learns takes its steps: Adam, with learning rates that rise quickly and fall for the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

_WARM_UP = 0.1  # of the steps


class Schedule:
    """rate: the highest learning rate. decay: of Adam's mean of squares."""

    def __init__(self, parameters: Sequence[Tensor], rate: float, steps: int, decay: float = 0.999) -> None:
        self._optimizer = torch.optim.Adam(parameters, lr=rate, betas=(0.9, decay))
        self._rates = torch.optim.lr_scheduler.OneCycleLR(self._optimizer, rate, steps, pct_start=_WARM_UP)

    @contextmanager
    def step(self) -> Iterator[None]:
        """Take one, along the gradients that the block computes."""
        self._optimizer.zero_grad()
        yield
        self._optimizer.step()
        self._rates.step()
