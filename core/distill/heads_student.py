"""A model whose KV heads are shared and learn: all else is the trained model's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor
from torch.nn.functional import linear

from core.decoder.linear import Linear, quick_dtype
from core.decoder.model import Block, Decoder, RmsNorm
from core.decoder.plan import LayerPlan, Plan, Source, plan_of
from core.decoder.preparation import Preparation
from core.decoder.probe import Probe
from core.distill.losses import divergence
from core.distill.reading import read
from core.heads.kv_sharing import join
from core.heads.moments import moments
from core.heads.table import KvSharingOptions
from core.heads.trained import TrainedHeads


class Student:
    """`decoder` shares heads as `heads` say, layer by layer; parameters: what of them is trained."""

    def __init__(self, teacher: Decoder, plan: Plan, heads: Sequence[TrainedHeads]) -> None:
        """plan: the trained model's, whose W_q, W_o and biases are changed; its keys' norms are those of shared heads."""
        self.teacher, self.heads = teacher, heads
        self.parameters = [part.requires_grad_() for layer in heads for part in layer.named(0).values() if part.numel()]
        parts = zip(teacher.blocks, plan.layers, heads, strict=True)
        self.decoder = replace(teacher, blocks=[_sharing(*part, plan.traits.head_size) for part in parts])

    def said(self, hidden: Tensor) -> Tensor:
        """Logits [T, V] of hidden states [T, C], of either model."""
        return self.teacher.logits(hidden, Probe())

    def divergence(self, batches: Sequence[Sequence[Tensor]]) -> float:
        """How far what is said is from what the trained model says, in nats a token of sequences [T]."""
        with torch.no_grad():
            return float(torch.stack([self._divergence(tokens) for tokens in chain.from_iterable(batches)]).mean())

    def _divergence(self, tokens: Tensor) -> Tensor:
        taught, learned = (self.said(read(model, tokens).hidden) for model in (self.teacher, self.decoder))
        return divergence(taught, learned)

    def named(self) -> dict[str, Tensor]:
        """What was learned, as an adapter file has it."""
        named = [layer.named(index) for index, layer in enumerate(self.heads)]
        return {name: part.detach().bfloat16() for layer in named for name, part in layer.items()}


class _Changing(Linear):
    """A product with a matrix that is made anew for every pass, so that what it is made of can learn."""

    def __init__(self, matrix: Callable[[], Tensor], vector: Callable[[], Tensor] | None, shape: tuple[int, ...]) -> None:
        self.matrix, self.vector = matrix, vector
        self.out_features, self.in_features = shape

    def __call__(self, x: Tensor) -> Tensor:
        dtype = quick_dtype()
        bias = None if self.vector is None else self.vector().to(dtype)
        return linear(x.to(dtype), self.matrix().to(dtype), bias).float()

    @property
    def nbytes(self) -> int:
        return self.out_features * self.in_features * quick_dtype().itemsize

    def dense(self) -> Tensor:
        return self.matrix().detach()


def _sharing(block: Block, layer: LayerPlan, heads: TrainedHeads, head_size: int) -> Block:
    """A block of the trained model with shared heads."""
    q, o, attention = layer.q.dense(), layer.o.dense(), block.attention

    def inputs() -> Tensor:
        return torch.cat((heads.queries(q), heads.k, heads.v))

    def bias() -> Tensor:
        return torch.cat((heads.turned(layer.biases["q"][:, None].float())[:, 0], heads.k_bias, heads.v_bias))

    own = layer.biases.get("o")
    shared = replace(
        attention,
        qkv=_Changing(inputs, bias if "q" in layer.biases else None, (len(q) + 2 * len(heads.k), q.shape[1])),
        out=_Changing(lambda: heads.outputs(o), None if own is None else lambda: own, tuple(o.shape)),
        kv_heads=len(heads.k) // head_size,
        k_norm=attention.k_norm and RmsNorm(layer.norms["k_norm"], attention.k_norm.eps),
    )
    return replace(block, attention=shared)


def first_heads(preparation: Preparation, plan: Plan, kv_heads: int, rank: int) -> list[TrainedHeads]:
    """Where training begins: the heads of least squares, as large as the trained ones, and nothing of rank `rank` changed.

    The norms of keys in `plan` become those of the shared heads.
    """
    shared, options = plan_of(preparation.checkpoint), KvSharingOptions(kv_heads, "least_squares")
    found = []
    for index, seen in enumerate(moments(preparation, range(len(plan.layers)))):
        turns = join(shared, index, seen, options)
        found.append(_first(plan.layers[index], shared.layers[index], turns, rank, index))
        plan.layers[index].norms = shared.layers[index].norms
    return found


def _first(own: LayerPlan, shared: LayerPlan, turns: tuple[Tensor, Tensor], rank: int, seed: int) -> TrainedHeads:
    """turns: what W_q and W_o took over of each trained head."""
    (rows, width), outputs = own.q.shape, own.o.shape[0]
    generator = torch.Generator().manual_seed(seed)
    k, v = (_size(getattr(own, letter)) / _size(getattr(shared, letter)) for letter in "kv")
    k_bias, v_bias = (shared.biases[letter] if letter in shared.biases else torch.empty(0) for letter in "kv")
    down = [torch.randn(rank, count, generator=generator) / count**0.5 for count in (width, rows)]
    up = [torch.zeros(count, rank) for count in (rows, outputs)]
    return TrainedHeads(
        shared.k.dense() * k, shared.v.dense() * v, k_bias * k, v_bias * v,
        turns[0].float() / k, turns[1].float() / v, down[0], up[0], down[1], up[1],
    )  # fmt: skip


def _size(matrix: Source) -> float:
    return float(matrix.dense().square().mean().sqrt())
