"""The highest memory of one run on a GPU."""

from __future__ import annotations

import torch


class DevicePeak:
    """From its making on: the peak of what torch allocates on `device`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        torch.cuda.reset_peak_memory_stats(device)
        self._before = torch.cuda.memory_allocated(device)

    def bytes(self) -> int:
        return torch.cuda.max_memory_allocated(self._device)

    def working(self, kv: int) -> int:
        return max(0, self.bytes() - self._before - kv)
