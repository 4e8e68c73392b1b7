"""Rotary position embedding: cosines and sines by position, in the half-split layout of Hugging Face checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from core.decoder.rope_scaling import frequencies, regime
from core.decoder.traits import Rope


@dataclass
class RopeTable:
    """cos, sin [positions, size / 2] float32, grown on demand."""

    rope: Rope
    cos: torch.Tensor = field(default_factory=lambda: torch.empty(0, 0))
    sin: torch.Tensor = field(default_factory=lambda: torch.empty(0, 0))
    _regime: int = -1

    def reserve(self, positions: int, run: int) -> None:
        """Make entries for positions 0 … positions − 1 available, in a run of at most `run` tokens.

        Kinds that stretch with the length take the run's whole length from its first token, so that all keys of a run
        are rotated alike.
        """
        wanted = regime(self.rope, run)
        if positions <= len(self.cos) and wanted == self._regime:
            return
        self._regime = wanted
        count = max(positions, 512, 2 * len(self.cos) if positions > len(self.cos) else len(self.cos))
        by_pair, factor = frequencies(self.rope, run)
        angles = torch.arange(count, dtype=torch.float32)[:, None] * by_pair[None, :]
        self.cos, self.sin = angles.cos() * factor, angles.sin() * factor

    def rotate(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """x [T, heads, D] rotated to `positions` [T]; the values past `size` stay."""
        return _rotated(x, self.cos[positions][:, None], self.sin[positions][:, None])  # [T, 1, size/2]

    def turned(self, x: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """x [T, heads, D], which is rotated already, moved by `steps` positions [T] or [1], forwards or backwards."""
        cos, sin = (part[steps.abs()][:, None] / self.cos[0] for part in (self.cos, self.sin))  # entry 0 is the gain alone
        return _rotated(x, cos, sin * steps.sign()[:, None, None])


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x [T, heads, D] by angles [T, 1, half]."""
    half = cos.shape[-1]
    a, b = x[..., :half], x[..., half : 2 * half]
    return torch.cat((a * cos - b * sin, b * cos + a * sin, x[..., 2 * half :]), dim=-1)
