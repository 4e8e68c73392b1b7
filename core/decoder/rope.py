"""Rotary position embedding: cosines and sines by position, in the half-split layout of Hugging Face checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from core.decoder.traits import Rope


@dataclass
class RopeTable:
    """cos, sin [positions, size / 2] float32, grown on demand."""

    rope: Rope
    config: dict[str, Any]
    cos: torch.Tensor
    sin: torch.Tensor

    @classmethod
    def of(cls, rope: Rope, config: dict[str, Any]) -> RopeTable:
        table = cls(rope, config, torch.empty(0, 0), torch.empty(0, 0))
        table.reserve(512)
        return table

    def reserve(self, positions: int) -> None:
        """Make entries for positions 0 … positions − 1 available."""
        if positions <= len(self.cos):
            return
        count = max(positions, 2 * len(self.cos))
        frequencies, factor = _frequencies(self.rope, self.config, count)
        angles = torch.arange(count, dtype=torch.float32)[:, None] * frequencies[None, :]
        self.cos, self.sin = angles.cos() * factor, angles.sin() * factor

    def rotate(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """x [T, heads, D] rotated to `positions` [T]; the values past `size` stay."""
        half = self.rope.size // 2
        cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]  # [T, 1, size/2]
        a, b = x[..., :half], x[..., half : 2 * half]
        return torch.cat((a * cos - b * sin, b * cos + a * sin, x[..., 2 * half :]), dim=-1)


def _frequencies(rope: Rope, config: dict[str, Any], count: int) -> tuple[torch.Tensor, float]:
    """Angular frequency of each pair, and the factor on cosine and sine."""
    if rope.kind == "default":
        return rope.theta ** -(torch.arange(0, rope.size, 2, dtype=torch.float32) / rope.size), 1.0
    # Scaled kinds (linear, llama3, yarn, longrope …) are transformers' business; imported only for models that use them.
    from transformers import AutoConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    full = AutoConfig.for_model(**config)
    frequencies, factor = ROPE_INIT_FUNCTIONS[rope.kind](full, torch.device("cpu"), seq_len=count)
    return frequencies, float(factor)
