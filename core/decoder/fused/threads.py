"""How many threads torch takes between what the crew computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def alone() -> Iterator[None]:
    """One thread: others that torch wakes wait for more by spinning, and keep cores from the crew."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
