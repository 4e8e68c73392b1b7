"""From a plan to a decoder on a device, with a weight technique deciding how every matrix is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from core.config import Choice
from core.cuda.kernels import Kernels, kernels_for
from core.cuda.linear import DeviceLinear, OnDevice
from core.cuda.model import DeviceDecoder
from core.decoder.build import Progress, Weights, build
from core.decoder.linear import Linear
from core.decoder.plan import LayerPlan, Plan, Source


def build_on(
    device: torch.device, plan: Plan, choice: Choice, progress: Progress, kernels: Kernels | None = None
) -> DeviceDecoder:
    """The decoder of `plan` with the weight technique `choice`, and the kernels of `device` where others are not given."""
    kernels = kernels or kernels_for(device)
    technique: Weights = choice.technique.load()(choice.options, plan, OnDevice(kernels, device))
    weights = _Weights(technique, plan, device)
    decoder = build(_moved(plan, device), weights, progress)
    decoder.embed_nbytes = weights.embed_nbytes
    return DeviceDecoder(decoder, kernels, _activations(choice, plan, technique), technique.kv_dtype)


def _activations(choice: Choice, plan: Plan, technique: Weights) -> torch.dtype:
    """What products take and give: the weights' own format where they are plain; packed ones have activations of 16 bits."""
    if choice.name == "cast":
        return technique.kv_dtype
    kind = plan.layers[0].q.kind
    if kind == "F32" and choice.name == "native":
        return torch.float32
    return torch.float16 if kind == "F16" else torch.bfloat16


class _Weights:
    """A technique's matrices on the device, the embedding too; one that is also the head lies there once."""

    def __init__(self, technique: Weights, plan: Plan, device: torch.device) -> None:
        self.technique, self.device, self.kv_dtype = technique, device, technique.kv_dtype
        self.tied = plan.embed is plan.head
        self.embed_nbytes = 0
        self._head: Linear | None = None

    def linear(self, sources: Sequence[Source], bias: Tensor | None, layer: int | None) -> Linear:
        made = self.technique.linear(sources, None if bias is None else bias.to(self.device), layer)
        if layer is None:
            self._head = made
        return made

    def embedding(self, source: Source) -> Callable[[Tensor], Tensor]:
        matrix = self._head if self.tied else self.technique.linear([source], None, None)
        assert isinstance(matrix, DeviceLinear)
        self.embed_nbytes = 0 if self.tied else matrix.nbytes
        return matrix.rows


def _moved(plan: Plan, device: torch.device) -> Plan:
    """The plan with its norms on the device."""

    def layer(one: LayerPlan) -> LayerPlan:
        return replace(one, norms={place: norm.to(device) for place, norm in one.norms.items()})

    return replace(plan, layers=[layer(one) for one in plan.layers], norm=plan.norm.to(device))
