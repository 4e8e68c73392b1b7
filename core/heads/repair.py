"""W_o fitted anew to shared KV heads, layer by layer, so that the model goes on as it did with its own heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from core.attention.context import Context
from core.attention.mechanism import Rows
from core.cache.base import Layout
from core.cache.off import Off
from core.calibration import calibration_tokens
from core.decoder.at_work import Watched, decoder_as_stored
from core.decoder.build import build
from core.decoder.linear import Dense
from core.decoder.model import Decoder
from core.decoder.plan import Computed, Plan
from core.decoder.preparation import Preparation
from core.decoder.probe import Probe
from core.decoder.sites import softmax_over
from core.learned import Arrays, learned
from core.technique import NoOptions
from core.weights.native import Native

_VERSION = 1  # of what is learned and how
_WINDOWS, _TOKENS = 8, 512  # texts that are read, and tokens of each
_RIDGE = 0.02  # of the mean square of what W_o is given: how much it is held where it was


def repair(preparation: Preparation, plan: Plan, layers: Sequence[int], settings: object) -> None:
    """Fit W_o of `layers` of `plan`, whose heads were rewritten as `settings` say, from disk or now (stage `repair`)."""
    shapes = {layer: plan.layers[layer].o.shape for layer in layers}

    def fits(arrays: Arrays) -> bool:
        return all(arrays[f"o{layer}"].shape == shape for layer, shape in shapes.items())

    settings = _VERSION, _WINDOWS, _TOKENS, _RIDGE, settings, tuple(layers)
    path = Path(preparation.checkpoint.info.path)
    arrays = learned("repair", path, settings, lambda: _learned(preparation, plan, layers), fits)
    for layer in layers:
        plan.layers[layer].o = Computed(arrays[f"o{layer}"])


@dataclass
class _Reader:
    """A decoder that reads texts layer by layer. streams: x [T, C] of each text, as far as it has come."""

    decoder: Decoder
    contexts: list[Context]
    rows: list[Rows]
    streams: list[Tensor]

    @classmethod
    def of(cls, decoder: Decoder, texts: Sequence[Tensor]) -> _Reader:
        heads = tuple(block.attention.kv_heads for block in decoder.blocks)
        layouts = [Layout(heads, decoder.traits.head_size, len(text), torch.float32) for text in texts]
        contexts = [softmax_over(decoder, Off(NoOptions(), layout)) for layout in layouts]
        streams = [decoder.embedded(text, context, Probe()) for text, context in zip(texts, contexts, strict=True)]
        return cls(decoder, contexts, [context.rows(len(text), Probe()) for text, context in zip(texts, contexts)], streams)

    def attend(self, layer: int) -> None:
        """Go on to behind the attention of `layer`."""
        parts = zip(self.streams, self.contexts, self.rows, strict=True)
        self.streams = [self.decoder.attended(layer, self.decoder.blocks[layer], *part) for part in parts]

    def feed(self, layer: int) -> None:
        """Go on to behind the feed-forward block of `layer`."""
        block = self.decoder.blocks[layer]
        self.streams = [self.decoder.fed(layer, block, x, rows.probe) for x, rows in zip(self.streams, self.rows, strict=True)]


def _learned(preparation: Preparation, plan: Plan, layers: Sequence[int]) -> Arrays:
    """Let both models read the calibration text side by side, the shared one with every layer before repaired."""

    def progress(done: int) -> None:
        preparation.progress("repair", done, len(plan.layers))

    progress(0)
    length = min(_TOKENS, plan.traits.context)
    tokens = torch.split(torch.tensor(calibration_tokens(preparation.tokenizer, _WINDOWS * length)), length)
    found: Arrays = {}
    with torch.inference_mode():
        trained = _Reader.of(decoder_as_stored(preparation, lambda: progress(0))[1], tokens)
        shared = _Reader.of(build(plan, Native(NoOptions(), plan), lambda *_: progress(0)), tokens)
        for layer in range(max(layers) + 1):
            progress(layer)
            trained.attend(layer)
            if layer in layers:
                found[f"o{layer}"] = _attend_refitted(shared, layer, trained.streams)
            else:
                shared.attend(layer)
            for reader in (trained, shared):
                reader.feed(layer)
    return found


def _attend_refitted(shared: _Reader, layer: int, wanted: Sequence[Tensor]) -> Tensor:
    """Go on to behind the attention of `layer` with the W_o [C, H·D] that comes nearest to `wanted`; returns it."""
    attention, scale = shared.decoder.blocks[layer].attention, shared.decoder.traits.residual_scale
    before, inputs, out = shared.streams, list[Tensor](), attention.out
    attention.out = Watched(out, lambda x, _: inputs.append(x))
    shared.attend(layer)
    missing = torch.cat([(want - x) / scale for want, x in zip(wanted, shared.streams, strict=True)])
    # The norms that follow divide by the size of a token's stream, so that is what its errors are measured by.
    importance = torch.cat(list(wanted)).square().mean(dim=1, keepdim=True).rsqrt()
    weight = out.dense() + _ridge(torch.cat(inputs) * importance, missing * importance)
    attention.out = Dense(weight, out.bias)
    shared.streams = [x + attention.out(given) * scale for x, given in zip(before, inputs, strict=True)]
    return weight


def _ridge(x: Tensor, y: Tensor) -> Tensor:
    """w [out, in] with the least |x wᵀ − y|² + ridge · |w|², for x [N, in] and y [N, out]."""
    moments = (x.T @ x).double()
    moments += _RIDGE * moments.diagonal().mean() * torch.eye(len(moments))
    weight: Tensor = torch.linalg.solve(moments, (x.T @ y).double()).T.float()
    return weight
