"""Decoders of a tiny checkpoint on a device, and the plain decoder beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from core.attention.context import Context
from core.attention.mechanism import mechanisms
from core.attention.patterns import plans_of
from core.cache.base import Layout
from core.cache.dynamic import Dynamic
from core.config import Choice, RunConfig
from core.cuda.build import build_on
from core.cuda.kernels import Kernels
from core.cuda.session import DeviceSession, Room
from core.cuda.steps import Steps
from core.cuda.store import Stores
from core.decoder.build import build
from core.decoder.model import Decoder
from core.decoder.plan import plan_of
from core.decoder.probe import Probe
from core.decoder.sites import expansions_of, sites_of
from core.models.find import open_checkpoint
from core.technique import NoOptions
from tests.core.decoder.parity_models import tokens

COUNT = 150  # tokens: more than the first bucket holds
TOKENS = tokens(COUNT).tolist()
CPU = torch.device("cpu")
GROWING = Room(COUNT, whole=False)
FULL = ""


def attention(settings: str) -> Choice:
    """The technique that settings such as `window attention.window=20` choose; none is full attention."""
    return RunConfig().set([f"attention.name={setting}" for setting in settings.split()[:1]] + settings.split()[1:]).attention


@dataclass(frozen=True)
class Pair:
    """The plain decoder of a checkpoint, and what sessions on a device are made of."""

    plain: Decoder
    steps: Steps
    stores: Stores

    def layout(self, dtype: torch.dtype) -> Layout:
        heads = tuple(block.attention.kv_heads for block in self.plain.blocks)
        return Layout(heads, self.plain.traits.head_size, COUNT, dtype)

    def session(self, settings: str = FULL, room: Room = GROWING, probe: Probe | None = None) -> DeviceSession:
        layout = self.layout(self.steps.decoder.kv_dtype)
        plans = plans_of(attention(settings), layout.kv_heads, [block.attention.window or 0 for block in self.plain.blocks])
        patterns = [plan.surely for plan in plans]
        return DeviceSession(self.steps, self.stores, layout, room, patterns, probe or Probe())

    def expected(self, settings: str = FULL, fed: Sequence[int] = TOKENS) -> torch.Tensor:
        """Logits [T, V] of the plain decoder, and of its own way to attend."""
        found = mechanisms(attention(settings), sites_of(self.plain, COUNT, torch.float32))
        context = Context(Dynamic(NoOptions(), self.layout(torch.float32)), found, expansions_of(self.plain))
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
