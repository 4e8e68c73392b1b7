"""The local engine's decoder on a GPU."""

from __future__ import annotations

import torch

from core.attention.patterns import plans_of
from core.cache.base import Layout
from core.config import Choice, RunConfig
from core.cuda.build import build_on
from core.cuda.memory import DevicePeak
from core.cuda.model import DeviceDecoder
from core.cuda.offloaded import Offloaded
from core.cuda.session import DeviceSession, Room
from core.cuda.speed import bandwidth
from core.cuda.steps import Steps
from core.cuda.store import Resident, Stores
from core.cuda.support import device_of
from core.decoder.probe import Probe
from core.engine.backend import Backend, Progress
from core.engine.planned import Planned
from core.errors import BadInput
from core.memory import Peak
from core.models.info import ModelInfo
from core.models.tokenizer import Tokenizer


class DeviceBackend(Backend):
    """A decoder built on `device`; of the processor too, which tests use."""

    def __init__(self, info: ModelInfo, tokenizer: Tokenizer, decoder: DeviceDecoder, place: torch.device) -> None:
        self.info, self.tokenizer, self.decoder, self.place = info, tokenizer, decoder, place
        self.weight_bytes = decoder.decoder.nbytes
        self.steps, self.stores = Steps(decoder, place), Stores(decoder.decoder.ropes, place)
        self.device = f"{_name(place)}, {decoder.kernels.name} kernels"

    @classmethod
    def load(cls, config: RunConfig, progress: Progress) -> DeviceBackend:
        return cls.of(Planned.of(config, progress), config, torch.device("cuda"), progress)

    @classmethod
    def of(cls, planned: Planned, config: RunConfig, device: torch.device, progress: Progress) -> DeviceBackend:
        """Build what was planned on `device`."""
        decoder = build_on(device, planned.plan, config.weights, progress)
        backend = cls(planned.checkpoint.info, planned.tokenizer, decoder, device)
        backend._warm(config, progress)
        return backend

    @property
    def pass_bytes(self) -> int:
        return self.decoder.decoder.active_nbytes

    def session(self, config: RunConfig, capacity: int, probe: Probe) -> DeviceSession:
        decoder, dtype = self.decoder.decoder, self.decoder.kv_dtype
        heads = tuple(block.attention.kv_heads for block in decoder.blocks)
        plans = plans_of(config.attention, heads, [block.attention.window or 0 for block in decoder.blocks])
        patterns = [plan.surely for plan in plans]  # nothing that chooses by content has a CUDA form
        layout = Layout(heads, decoder.traits.head_size, capacity, dtype)
        return DeviceSession(self.steps, self.stores, layout, _room(config.cache, capacity), patterns, probe)

    def peak_memory(self) -> Peak:
        return DevicePeak(self.place) if self.place.type == "cuda" else super().peak_memory()

    def memory_budget(self) -> int:
        return torch.cuda.mem_get_info(self.place)[1] if self.place.type == "cuda" else super().memory_budget()

    def bandwidth(self) -> float | None:
        return bandwidth(self.place) if self.place.type == "cuda" else super().bandwidth()

    def _warm(self, config: RunConfig, progress: Progress) -> None:
        """Compile what passes call, so that no run pays for it."""
        progress("kernels", 0, 1)
        session = self.session(config.set(["cache.name=dynamic"]), 16, Probe())
        session.forward([0] * 15)
        session.forward([0])


def goes_to_gpu(config: RunConfig, info: ModelInfo) -> bool:
    """Whether the local engine runs `config` on CUDA; BadInput where it insists on a GPU that torch cannot use."""
    if device_of(config, info) == "cpu" or torch.cuda.is_available():
        return device_of(config, info) == "cuda"
    if config.engine.options.device == "cuda":
        raise BadInput(
            f"engine.device=cuda: torch {torch.__version__} cannot use this machine's GPU, mostly because the NVIDIA driver is "
            "older than the CUDA it was built with; use engine.device=cpu"
        )
    return False


def _room(cache: Choice, capacity: int) -> Room:
    """What the cache technique has for a run of at most `capacity` tokens."""
    if cache.name == "static":
        return Room(cache.options.capacity or capacity, whole=True)
    return Room(capacity, whole=False, kind=Offloaded if cache.name == "offloaded" else Resident)


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
