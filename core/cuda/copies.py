"""Copies between the host and a device, beside what the device computes."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

Mark = Any  # a point of one of the two timelines, as `now` and `copy` give it


class Copies(Protocol):
    """A timeline of copies beside that of computing. Each does its own in order, and waits for the other where it is told."""

    def now(self) -> Mark:
        """Where computing stands: what was asked of it so far."""

    def copy(self, into: Tensor, source: Tensor, after: Mark) -> Mark:
        """Copy after what was copied before, and after the mark of computing; a mark behind it."""

    def wait(self, mark: Mark) -> None:
        """Let what is computed from now on wait for a mark of copying."""

    def settle(self) -> None:
        """Let the host wait until all is copied."""


class Streamed:
    """Of a GPU: a stream of its own. Copies run beside computing where the host's side is pinned."""

    def __init__(self, device: torch.device, used: Tensor) -> None:
        """used: memory of the device that is copied from and to; it is not given away before its last copy is over."""
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        used.record_stream(self.stream)

    def now(self) -> Mark:
        return torch.cuda.current_stream().record_event()

    def copy(self, into: Tensor, source: Tensor, after: Mark) -> Mark:
        with torch.cuda.stream(self.stream):
            self.stream.wait_event(after)
            into.copy_(source, non_blocking=True)
            return self.stream.record_event()

    def wait(self, mark: Mark) -> None:
        torch.cuda.current_stream().wait_event(mark)

    def settle(self) -> None:
        self.stream.synchronize()


class Direct:
    """Of the processor: all is done when it is asked for."""

    def now(self) -> Mark:
        return None

    def copy(self, into: Tensor, source: Tensor, after: Mark) -> Mark:
        into.copy_(source)

    def wait(self, mark: Mark) -> None:
        """Nothing is under way."""

    def settle(self) -> None:
        """Nothing is under way."""


def copies_on(device: torch.device, used: Tensor) -> Copies:
    """Those of `device`, from and to its memory `used`."""
    return Streamed(device, used) if device.type == "cuda" else Direct()
