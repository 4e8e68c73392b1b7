"""How the feed-forward blocks of a model divide into experts, learned from the model at work and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from core.cache.base import Layout
from core.cache.off import Off
from core.calibration import calibration_tokens
from core.decoder.build import build
from core.decoder.feed_forward import Gated
from core.decoder.plan import GatedPlan, Plan, plan_of
from core.decoder.preparation import Preparation
from core.decoder.probe import Probe
from core.decoder.sites import softmax_over
from core.errors import RunFailed
from core.ffn.clusters import balanced_groups
from core.files import replacing
from core.folders import cache_folder
from core.technique import NoOptions
from core.weights.native import Native

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
    plan = plan_of(preparation.checkpoint)
    file = cache_folder() / "moefy" / f"{_key(preparation, layers, experts)}.npz"
    kept = _read(file, plan, layers, experts)
    if kept is None:
        kept = _learned(preparation, plan, layers, experts)
        _write(file, kept)
    return kept


def _key(preparation: Preparation, layers: Sequence[int], experts: int) -> str:
    """Changes with the model's files and with everything else that the result depends on."""
    path = Path(preparation.checkpoint.info.path)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    text = repr((_VERSION, _TOKENS, str(path), stamps, tuple(layers), experts))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _learned(preparation: Preparation, plan: Plan, layers: Sequence[int], experts: int) -> dict[int, Division]:
    """Run the model as it is stored over the calibration text, and divide each block when the text passes through it."""

    def progress(done: int) -> None:
        preparation.progress("ffn", done, len(layers) + 1)

    progress(0)
    decoder = build(plan, Native(NoOptions(), plan), lambda *_: progress(0))
    found: dict[int, Division] = {}

    def learn(layer: int, x: Tensor, hidden: Tensor) -> None:
        progress(len(found) + 1)
        ffn = plan.layers[layer].ffn
        assert isinstance(ffn, GatedPlan)
        found[layer] = divided(x, hidden, ffn.down.dense(), experts)

    for layer in layers:
        block = decoder.blocks[layer]
        assert isinstance(block.ffn, Gated)
        block.ffn = _Watched(block.ffn, learn)
    decoder.blocks = decoder.blocks[: max(layers) + 1]
    tokens = torch.tensor(calibration_tokens(preparation.tokenizer, min(_TOKENS, plan.traits.context)))
    layout = Layout(tuple(layer.kv_heads for layer in plan.layers), plan.traits.head_size, len(tokens), torch.float32)
    with torch.inference_mode():
        decoder.forward(tokens, softmax_over(decoder, Off(NoOptions(), layout)), Probe())
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


def _read(file: Path, plan: Plan, layers: Sequence[int], experts: int) -> dict[int, Division] | None:
    """What was learned before; None when there is none, or the file is damaged."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            found = {layer: _division(arrays, layer) for layer in layers}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    whole = torch.arange(plan.traits.ffn_width)
    shape = (experts, plan.traits.width)
    for division in found.values():
        fits = division.weight.shape == shape and division.bias.shape == shape[:1] and len(division.groups) == experts
        if not fits or not torch.equal(division.groups.flatten().sort().values, whole):
            return None
    return found


def _division(arrays: Mapping[str, np.ndarray], layer: int) -> Division:
    groups, weight, bias = (torch.from_numpy(arrays[f"{name}{layer}"]) for name in ("groups", "weight", "bias"))
    return Division(groups.long(), weight.float(), bias.float())


def _write(file: Path, found: Mapping[int, Division]) -> None:
    arrays: dict[str, Any] = {}
    for layer, division in found.items():
        arrays |= {f"groups{layer}": division.groups.int().numpy()}
        arrays |= {f"weight{layer}": division.weight.numpy(), f"bias{layer}": division.bias.numpy()}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as opened:
            np.savez(opened, **arrays)
    except (OSError, RunFailed):
        return  # a full or read-only disk: the run has what it needs, and the next one learns it again
