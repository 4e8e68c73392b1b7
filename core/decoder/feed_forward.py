"""Feed-forward blocks: gated, trained mixtures of experts, and dense blocks split into experts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.decoder.linear import Linear
from core.decoder.probe import Probe

Activation = Callable[[Tensor], Tensor]


def gelu_tanh(x: Tensor) -> Tensor:
    return torch.nn.functional.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Activation] = {"silu": torch.nn.functional.silu, "gelu_tanh": gelu_tanh}


@dataclass
class Gated:
    """down(act(gate x) · up x); gate and up are one product of 2F rows."""

    gate_up: Linear
    down: Linear
    activation: Activation

    def __call__(self, x: Tensor, layer: int, probe: Probe) -> Tensor:
        return self.down(self.hidden(x))

    def hidden(self, x: Tensor) -> Tensor:
        """[T, C] to [T, F]."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.activation(gate) * up

    @property
    def nbytes(self) -> int:
        return self.gate_up.nbytes + self.down.nbytes

    @property
    def active_nbytes(self) -> int:
        return self.nbytes


@dataclass
class Mixture:
    """A trained mixture: the K experts of highest router probability, weighted by it.

    normalise: the K weights are rescaled to sum to one. shared: an expert that every token uses, behind a sigmoid gate.
    """

    router: Linear
    experts: Sequence[Gated]
    used: int
    normalise: bool
    shared: Gated | None = None
    shared_gate: Linear | None = None

    def __call__(self, x: Tensor, layer: int, probe: Probe) -> Tensor:
        y = torch.zeros_like(x)
        for expert, token, weights in self.shares(x, layer, probe):
            y[token] += expert(x[token], layer, probe) * weights[:, None]
        return y

    def shares(self, x: Tensor, layer: int, probe: Probe) -> Iterator[tuple[Gated, Tensor, Tensor]]:
        """Each expert that rows of x [T, C] use, those n rows, and its weight [n] in each; the probe is told if it asks."""
        weights, chosen = self._choose(x, layer, probe)
        for expert in torch.unique(chosen).tolist():
            token, slot = (chosen == expert).nonzero(as_tuple=True)
            yield self.experts[expert], token, weights[token, slot]
        if self.shared is not None and self.shared_gate is not None:
            yield self.shared, torch.arange(len(x), device=x.device), self.shared_gate(x).sigmoid()[:, 0]

    def _choose(self, x: Tensor, layer: int, probe: Probe) -> tuple[Tensor, Tensor]:
        """Weights and experts [T, K], highest probability first."""
        weights, chosen = self.router(x).softmax(dim=-1).topk(self.used, dim=-1)
        if self.normalise:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        if probe.routing:
            _report(probe, layer, chosen, weights, len(self.experts))
        return weights, chosen

    @property
    def members(self) -> list[Gated]:
        """All experts, the shared one last."""
        return [*self.experts, *([] if self.shared is None else [self.shared])]

    @property
    def nbytes(self) -> int:
        return self.router.nbytes + sum(expert.nbytes for expert in self.experts) + self._shared_nbytes

    @property
    def active_nbytes(self) -> int:
        return self.router.nbytes + self.used * self.experts[0].nbytes + self._shared_nbytes

    @property
    def _shared_nbytes(self) -> int:
        parts = (self.shared, self.shared_gate)
        return sum(part.nbytes for part in parts if part is not None)


@dataclass
class Split:
    """A dense block whose neurons are divided into experts; each token computes those of K experts.

    gate_ups[e] [2 F/E, C] and the neuron indices groups [E, F/E]. The down product reads the whole matrix whatever K is, since
    columns of a quantized matrix cannot be skipped without unpacking its blocks.
    """

    gate_ups: Sequence[Linear]
    groups: Tensor
    down: Linear
    router: Linear
    used: int
    activation: Activation

    def __call__(self, x: Tensor, layer: int, probe: Probe) -> Tensor:
        chosen = self.choose(x, layer, probe)
        hidden = x.new_zeros(len(x), self.down.in_features)
        for expert in torch.unique(chosen).tolist():
            token = rows_of(expert, chosen)
            gate, up = self.gate_ups[expert](x[token]).chunk(2, dim=-1)
            hidden[token[:, None], self.groups[expert]] = self.activation(gate) * up
        return self.down(hidden)

    def choose(self, x: Tensor, layer: int, probe: Probe) -> Tensor:
        """The experts [T, K] of x [T, C], highest score first; the probe is told if it asks."""
        chosen = self.router(x).topk(self.used, dim=-1).indices
        if probe.routing:
            _report(probe, layer, chosen, torch.full(chosen.shape, 1.0), len(self.groups))
        return chosen

    @property
    def nbytes(self) -> int:
        return self.router.nbytes + self.down.nbytes + sum(part.nbytes for part in self.gate_ups)

    @property
    def active_nbytes(self) -> int:
        return self.router.nbytes + self.down.nbytes + self.used * self.gate_ups[0].nbytes


def rows_of(expert: int, chosen: Tensor) -> Tensor:
    """The rows of `chosen` [T, K] that chose `expert`."""
    return (chosen == expert).any(dim=-1).nonzero()[:, 0]


def _report(probe: Probe, layer: int, chosen: Tensor, weights: Tensor, count: int) -> None:
    probe.lap("ffn")
    probe.route(layer, chosen.short().numpy(), weights.half().numpy(), count)
    probe.lap("capture")
