"""Decoders of a tiny checkpoint on a device, and the plain decoder beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from core.attention.mask import FULL, Reach
from core.cache.base import Layout
from core.cache.dynamic import Dynamic
from core.config import RunConfig
from core.cuda.build import build_on
from core.cuda.kernels import Kernels
from core.cuda.session import DeviceSession, Room
from core.cuda.steps import Steps
from core.cuda.store import Stores
from core.decoder.build import build
from core.decoder.model import Decoder
from core.decoder.plan import plan_of
from core.decoder.probe import Probe
from core.decoder.sites import softmax_over
from core.models.find import open_checkpoint
from core.technique import NoOptions
from tests.core.decoder.parity_models import tokens

COUNT = 150  # tokens: more than the first bucket holds
TOKENS = tokens(COUNT).tolist()
CPU = torch.device("cpu")
GROWING = Room(COUNT, whole=False)


@dataclass(frozen=True)
class Pair:
    """The plain decoder of a checkpoint, and what sessions on a device are made of."""

    plain: Decoder
    steps: Steps
    stores: Stores

    def layout(self, dtype: torch.dtype) -> Layout:
        heads = tuple(block.attention.kv_heads for block in self.plain.blocks)
        return Layout(heads, self.plain.traits.head_size, COUNT, dtype)

    def session(self, reach: Reach = FULL, room: Room = GROWING, probe: Probe | None = None) -> DeviceSession:
        reaches = [reach & Reach(0, block.attention.window) for block in self.plain.blocks]
        layout = self.layout(self.steps.decoder.kv_dtype)
        return DeviceSession(self.steps, self.stores, layout, room, reaches, probe or Probe())

    def expected(self, reach: Reach = FULL, fed: Sequence[int] = TOKENS) -> torch.Tensor:
        """Logits [T, V] of the plain decoder."""
        context = softmax_over(self.plain, Dynamic(NoOptions(), self.layout(torch.float32)), reach)
        with torch.inference_mode():
            return self.plain.logits(self.plain.forward(torch.tensor(fed), context, Probe()), Probe())


def pair_of(
    folder: Path, device: torch.device = CPU, kernels: Kernels | None = None, weights: Sequence[str] = ("weights.name=cast",)
) -> Pair:
    """The plain decoder takes the same weights in the number format of the processor."""
    choice = RunConfig().set(weights).weights
    plan, same = (plan_of(open_checkpoint(str(folder))) for _ in range(2))
    decoder = build_on(device, plan, choice, lambda *_: None, kernels)
    plain = build(same, choice.technique.load()(choice.options, same), lambda *_: None)
    return Pair(plain, Steps(decoder, device), Stores(decoder.decoder.ropes, device))


def passes(session: DeviceSession, sizes: Sequence[int]) -> torch.Tensor:
    """All logits of TOKENS in passes of these sizes."""
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    return torch.cat([session.forward(TOKENS[end - size : end], all_logits=True) for size, end in zip(sizes, ends)])
