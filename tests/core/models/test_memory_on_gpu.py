"""What memory a configuration is said to need on a GPU, and what the GPU is said to have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf_samples import blocks
from test_memory_estimate import INFO

from core.config import RunConfig
from core.cuda import found, support
from core.cuda.backend import DeviceBackend
from core.cuda.groups import Groups
from core.engine.planned import Planned
from core.models import memory
from core.models.default import is_fetched
from core.models.find import describe
from core.models.memory import estimate, weight_bytes
from core.weights.gguf_codes import QUANTIZED, codes_of

GIB = 2**30


class Library:
    """The driver and its management library, of a GPU that others use too."""

    def __init__(self, init: int = 0) -> None:
        self.init = init

    def cuDeviceTotalMem_v2(self, total: Any, _device: int) -> int:
        total._obj.value = 80 * GIB
        return 0

    def cuDeviceGetPCIBusId(self, place: Any, _length: int, _device: int) -> int:
        place.value = b"0000:3b:00.0"
        return 0

    def nvmlInit_v2(self) -> int:
        return self.init

    def nvmlDeviceGetHandleByPciBusId_v2(self, place: Any, handle: Any) -> int:
        assert place.value == b"0000:3b:00.0"
        handle._obj.value = 7
        return 0

    def nvmlDeviceGetMemoryInfo(self, handle: Any, told: Any) -> int:
        assert handle.value == 7
        told[:] = [80 * GIB, 60 * GIB, 20 * GIB]
        return 0


@pytest.mark.parametrize(("init", "left"), [(0, 60), (12, 80)])
def test_that_the_management_library_tells_what_is_left(init: int, left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found.ctypes, "CDLL", lambda _name: Library(init))
    assert found.memory_left() == left * GIB


def test_that_without_it_all_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(name: str) -> Library:
        if name == "libnvidia-ml.so.1":
            raise OSError(name)
        return Library()

    monkeypatch.setattr(found.ctypes, "CDLL", opened)
    assert found.memory_left() == 80 * GIB


def test_that_what_runs_on_a_gpu_is_estimated_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "missing", lambda: None)
    monkeypatch.setattr(memory, "memory_left", lambda: 5 * GIB)
    config = RunConfig().set(["run.max_new_tokens=100"])
    there, here = (estimate(INFO, config.set([f"engine.device={device}"]), 60) for device in ("auto", "cpu"))
    assert (there.available, there.parts["kv"]) == (5 * GIB, 256 * there.kv_per_token)
    assert here.available != there.available
    assert estimate(INFO, config.set(["cache.name=rolling"]), 60).available == pytest.approx(here.available, rel=0.5)
    assert estimate(INFO, config.set(["cache.name=offloaded"]), 60).parts["kv"] == there.parts["kv"] // 2
    assert there.total == sum(there.parts.values())


@pytest.mark.parametrize("kind", sorted(QUANTIZED))
def test_that_packed_blocks_take_what_is_said(kind: str) -> None:
    stored = blocks(np.random.default_rng(1), GGMLQuantizationType[kind], (64, 512))
    codes = codes_of(kind, stored)
    offsets = None if codes.offsets is None else torch.from_numpy(codes.offsets)
    made = Groups.of(torch.from_numpy(codes.codes), torch.from_numpy(codes.scales), offsets, codes.bits, codes.group_size)
    per_block, nbytes = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    assert made.nbytes == pytest.approx(64 * 512 // per_block * nbytes * memory._ON_GPU.get(kind, 1.0))


@pytest.mark.skipif(not is_fetched(), reason="the default model is not fetched")
@pytest.mark.parametrize(
    "settings", [[], ["weights.name=rtn", "weights.bits=4", "weights.group_size=32", "weights.layers=0-9"]]
)
def test_that_the_loaded_model_takes_what_was_estimated(settings: list[str]) -> None:
    """Within 6 %: rows of 576 codes of this model are padded to 640, as those of few others are."""

    def quiet(_stage: str, _done: int, _total: int) -> None:
        """Nobody is told."""

    config = RunConfig().set(settings)
    loaded = DeviceBackend.of(Planned.of(config, quiet), config, torch.device("cpu"), quiet)
    assert weight_bytes(describe("default"), config, on_gpu=True) == pytest.approx(loaded.weight_bytes, rel=0.06)
