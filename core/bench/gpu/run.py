"""The whole grid: every shape in every format, then products by themselves and transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch

from core.bench.gpu.elsewhere import transformers_step
from core.bench.gpu.grid import FORMATS, GridModel, Times, cells
from core.bench.gpu.shapes import SHAPES
from core.cuda.found import missing
from core.cuda.speed import bandwidth, product_speed
from core.environment import environment
from core.errors import BadInput
from core.memory import give_back

BESIDE = 128  # context at which transformers is measured, with one sequence


@dataclass(frozen=True)
class GridSettings:
    """shapes: names of core/bench/gpu/shapes.py. tokens: steps of each measurement. formats: names of FORMATS."""

    shapes: tuple[str, ...]
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    tokens: int
    formats: tuple[str, ...] = tuple(FORMATS)


Place = tuple[str, str, int, int]  # shape, format, batch, context
Watcher = Callable[[str, int, int], None]  # what, done, total


@dataclass
class GridRecord:
    """times: None where memory did not do. steps: of transformers in float16 by shape. bandwidth, speed: peaks, measured."""

    settings: GridSettings
    environment: dict[str, Any]
    bandwidth: float | None
    speed: float | None
    times: dict[Place, Times | None] = field(default_factory=dict)
    products: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)


def gpu() -> torch.device:
    """The GPU to measure. Raises BadInput, in one sentence, where there is none."""
    reason = missing() or (None if torch.cuda.is_available() else f"torch {torch.__version__} cannot use this machine's GPU")
    if reason:
        raise BadInput(f"bench --gpu needs an NVIDIA GPU, and {reason}")
    return torch.device("cuda")


def run_grid(settings: GridSettings, watch: Watcher) -> GridRecord:
    """Measure on the GPU. Raises BadInput before anything is computed."""
    device = gpu()
    about = environment() | {"device": torch.cuda.get_device_name(device)}
    record = GridRecord(settings, about, bandwidth(device), product_speed(device, torch.float16))
    for name in settings.shapes:
        config = SHAPES[name]
        fill(record, name, config, device, watch)
        if find_spec("triton") is not None:
            watch(f"products of {name}", 0, 0)
            record.products[name] = _products(config, device)
        watch(f"transformers, {name}", 0, 0)
        record.steps[name] = transformers_step(config, BESIDE, settings.tokens, device)
        give_back()
        torch.cuda.empty_cache()
    return record


def _products(config: dict[str, Any], device: torch.device) -> list[dict[str, Any]]:
    from core.bench.gpu.kernels import products  # imports Triton

    return list(products(config, device))


def fill(record: GridRecord, name: str, config: dict[str, Any], device: torch.device, watch: Watcher) -> None:
    """One shape in all formats, one after the other."""
    settings = record.settings
    places = cells(settings.batches, settings.contexts)
    for weights in settings.formats:
        watch(f"making {name} in {weights}", 0, len(places))
        model = GridModel(config, weights, device)
        for done, (batch, context) in enumerate(places):
            watch(f"{name} in {weights}, batch {batch} at {context:,} tokens", done, len(places))
            record.times[name, weights, batch, context] = model.measure(batch, context, settings.tokens)
        del model
        give_back()
