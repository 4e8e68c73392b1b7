"""Which device runs a configuration, and which techniques have a CUDA form. Free of torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from core.config import RunConfig
from core.cuda.found import missing
from core.models.info import ModelInfo

Lack = tuple[str, str, str]  # family, name, why

_BLOCKWISE = ("dilated", "strided", "local_global", "bigbird")  # whose prompts go through flex attention
_BY_CONTENT = ("block_topk", "topk", "lsh")
_FORMS = {
    "attention": ("full", "window", "sink_window", *_BLOCKWISE),
    "heads": ("as_trained", "kv_sharing"),
    "cache": ("dynamic", "static", "offloaded"),
    "weights": ("native", "cast", "rtn"),
    "ffn": ("dense",),
}
_BITS, _GROUPS = (4, 8), 16  # widths of packed codes, and what the size of a group must be a multiple of
_SMALLEST_HEAD = 16  # that tensor cores multiply in flex attention


def device_of(config: RunConfig, info: ModelInfo) -> Literal["cpu", "cuda"]:
    """Where the local engine runs `config`: as it says; with `auto` on CUDA if there is one and it has all that is chosen."""
    device = config.engine.options.device
    if device != "auto":
        return "cuda" if device == "cuda" else "cpu"
    return "cpu" if missing() or any(lacks(config, info)) else "cuda"


def runs_on_gpu(config: RunConfig, info: ModelInfo) -> bool:
    """Whether a run would take memory of a GPU that is there."""
    return config.engine.name == info.engine == "local" and missing() is None and device_of(config, info) == "cuda"


def lacks(config: RunConfig, info: ModelInfo | None) -> Iterator[Lack]:
    """What of `config` has no CUDA form, and why."""
    for family, names in _FORMS.items():
        name = config.choice(family).name
        if name not in names:
            yield family, name, f"{name} {_why(name)} ({', '.join(names)} do)"
    options = config.weights.options
    if config.weights.name == "rtn" and options.bits not in _BITS:
        yield "weights", "rtn", f"packed weights on CUDA have 4 or 8 bits, not {options.bits}"
    if config.weights.name == "rtn" and options.group_size % _GROUPS:
        yield (
            "weights",
            "rtn",
            f"groups on CUDA are multiples of {_GROUPS} weights, and weights.group_size={options.group_size}",
        )
    if info is not None and config.attention.name in _BLOCKWISE and info.head_size < _SMALLEST_HEAD:
        name = config.attention.name
        yield "attention", name, f"{name} on CUDA takes heads of {_SMALLEST_HEAD} numbers or more, not {info.head_size}"
    if info is not None and info.experts:
        yield "engine", "local", f"{info.name} is a mixture of experts, which has no CUDA form"


def _why(name: str) -> str:
    if name in _BY_CONTENT:
        return "chooses keys by content, and a pattern must stand before the run to have a CUDA form"
    return "has no CUDA form"
