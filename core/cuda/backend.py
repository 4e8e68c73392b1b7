"""The local engine's decoder on a GPU."""

from __future__ import annotations

import torch

from core.attention.mask import Reach
from core.cache.base import Layout
from core.config import RunConfig
from core.cuda.build import build_on
from core.cuda.memory import DevicePeak
from core.cuda.session import DeviceSession, Room
from core.cuda.speed import bandwidth
from core.cuda.steps import Steps
from core.cuda.store import Stores
from core.decoder.plan import Plan
from core.decoder.probe import Probe
from core.engine.backend import Backend, Progress
from core.memory import Peak
from core.models.info import ModelInfo
from core.models.tokenizer import Tokenizer


class DeviceBackend(Backend):
    """A decoder built on `device`; of the processor too, which tests use."""

    def __init__(
        self, config: RunConfig, info: ModelInfo, tokenizer: Tokenizer, plan: Plan, device: torch.device, progress: Progress
    ) -> None:
        self.info, self.tokenizer = info, tokenizer
        decoder, kv_dtype = build_on(device, plan, config.weights, progress)
        self.weight_bytes, self._pass_bytes = decoder.decoder.nbytes, decoder.decoder.active_nbytes
        heads = tuple(block.attention.kv_heads for block in decoder.decoder.blocks)
        self._layout = Layout(heads, decoder.traits.head_size, 0, kv_dtype)
        self._steps, self._stores = Steps(decoder, device), Stores(decoder.decoder.ropes, device)
        self.device = f"{_name(device)}, {decoder.kernels.name} kernels"
        self._place = device
        self._warm(config, progress)

    @property
    def pass_bytes(self) -> int:
        return self._pass_bytes

    def session(self, config: RunConfig, capacity: int, probe: Probe) -> DeviceSession:
        static = config.cache.name == "static"
        layout = Layout(self._layout.kv_heads, self._layout.head_size, capacity, self._layout.dtype)
        reaches: tuple[Reach, ...] = config.attention.technique.load()(config.attention, len(layout.kv_heads))
        room = Room(config.cache.options.capacity or capacity if static else capacity, static)
        return DeviceSession(self._steps, self._stores, layout, room, reaches, probe)

    def peak_memory(self) -> Peak:
        return DevicePeak(self._place) if self._place.type == "cuda" else super().peak_memory()

    def memory_budget(self) -> int:
        return torch.cuda.mem_get_info(self._place)[1] if self._place.type == "cuda" else super().memory_budget()

    def bandwidth(self) -> float | None:
        return bandwidth(self._place) if self._place.type == "cuda" else super().bandwidth()

    def _warm(self, config: RunConfig, progress: Progress) -> None:
        """Compile what passes call, so that no run pays for it."""
        progress("kernels", 0, 1)
        session = self.session(config.set(["cache.name=dynamic"]), 16, Probe())
        session.forward([0] * 15)
        session.forward([0])


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
