"""How the feed-forward blocks of a model divide into experts, learned from the model at work and kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from core.calibration import calibration_tokens
from core.decoder.at_work import decoder_as_stored, read_through
from core.decoder.feed_forward import Gated
from core.decoder.plan import GatedPlan
from core.decoder.preparation import Preparation
from core.decoder.probe import Probe
from core.decoder.traits import Traits, traits_of
from core.ffn.clusters import balanced_groups
from core.learned import Arrays, learned

_TOKENS = 2048
_RIDGE = 0.5  # of the inputs' mean square
_VERSION = 2  # of what is learned and how


@dataclass(frozen=True)
class Division:
    """One block: groups [E, F/E] of neuron indices, and a router (weight [E, C] and bias [E]) that scores them."""

    groups: Tensor
    weight: Tensor
    bias: Tensor


def divisions(preparation: Preparation, layers: Sequence[int], experts: int) -> dict[int, Division]:
    """The division of each of `layers` into `experts`, from disk or learned now (stage `ffn` of the progress)."""
    traits = traits_of(preparation.checkpoint.config)

    def fits(arrays: Arrays) -> bool:
        return all(_fits(_division(arrays, layer), traits, experts) for layer in layers)

    settings = _VERSION, _TOKENS, tuple(layers), experts
    path = Path(preparation.checkpoint.info.path)
    arrays = learned("moefy", path, settings, lambda: _learned(preparation, layers, experts), fits)
    return {layer: _division(arrays, layer) for layer in layers}


def _learned(preparation: Preparation, layers: Sequence[int], experts: int) -> Arrays:
    """Run the model as it is stored over the calibration text, and divide each block when the text passes through it."""
    found: Arrays = {}

    def progress(done: int) -> None:
        preparation.progress("ffn", done, len(layers) + 1)

    progress(0)
    plan, decoder = decoder_as_stored(preparation, lambda: progress(0))

    def learn(layer: int, x: Tensor, hidden: Tensor) -> None:
        progress(len(found) // 3 + 1)
        ffn = plan.layers[layer].ffn
        assert isinstance(ffn, GatedPlan)
        one = divided(x, hidden, ffn.down.dense(), experts)
        found.update({f"groups{layer}": one.groups.int(), f"weight{layer}": one.weight, f"bias{layer}": one.bias})

    for layer in layers:
        block = decoder.blocks[layer]
        assert isinstance(block.ffn, Gated)
        block.ffn = _Watched(block.ffn, learn)
    decoder.blocks = decoder.blocks[: max(layers) + 1]
    read_through(decoder, calibration_tokens(preparation.tokenizer, min(_TOKENS, plan.traits.context)))
    progress(len(layers) + 1)
    return found


@dataclass
class _Watched:
    """A block that shows what goes through it: its input [T, C] and the activations of its neurons [T, F]."""

    block: Gated
    learn: Callable[[int, Tensor, Tensor], None]

    def __call__(self, x: Tensor, layer: int, probe: Probe) -> Tensor:
        hidden = self.block.hidden(x)
        self.learn(layer, x, hidden)
        return self.block.down(hidden)

    @property
    def nbytes(self) -> int:
        return self.block.nbytes

    @property
    def active_nbytes(self) -> int:
        return self.block.active_nbytes


def divided(x: Tensor, hidden: Tensor, down: Tensor, experts: int) -> Division:
    """The division learned from inputs x [N, C] and activations hidden [N, F] of a block with `down` [C, F].

    The router predicts the logarithm of the size of what each group adds to the block's output (MoEfication, Zhang et al.
    2022, section 3.2, with ridge regression instead of a small network).
    """
    activity = (hidden * down.norm(dim=0)).abs().T.contiguous()
    group = balanced_groups(activity, experts)
    groups = group.argsort(stable=True).reshape(experts, -1)
    added = torch.stack([(hidden[:, one] @ down[:, one].T).norm(dim=1) for one in groups], dim=1)  # [N, E]
    weight, bias = _regressed(x, added.clamp_min(1e-20).log())
    return Division(groups, weight, bias)


def _regressed(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """weight [E, C] and bias [E] of the ridge regression of target [N, E] on x [N, C]."""
    mean, level = x.mean(dim=0), target.mean(dim=0)
    centred = (x - mean).double()
    moments = centred.T @ centred
    moments += _RIDGE * x.double().square().sum() / x.shape[1] * torch.eye(len(moments), dtype=torch.float64)
    weight = torch.linalg.solve(moments, centred.T @ (target - level).double()).T.float()
    return weight.contiguous(), level - weight @ mean


def _fits(division: Division, traits: Traits, experts: int) -> bool:
    shapes = tuple(division.weight.shape), tuple(division.bias.shape), len(division.groups)
    neurons = division.groups.flatten().sort().values
    return shapes == ((experts, traits.width), (experts,), experts) and torch.equal(neurons, torch.arange(traits.ffn_width))


def _division(arrays: Arrays, layer: int) -> Division:
    return Division(arrays[f"groups{layer}"].long(), arrays[f"weight{layer}"].float(), arrays[f"bias{layer}"].float())
