"""The decoder of a device, on the processor, against the plain decoder: every dense family, every way through its cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from core.attention.mask import Reach
from core.cache.base import Layout
from core.cache.dynamic import Dynamic
from core.config import RunConfig
from core.cuda.build import build_on
from core.cuda.session import DeviceSession, Room
from core.cuda.steps import Steps
from core.cuda.store import Stores
from core.decoder.build import build
from core.decoder.model import Decoder
from core.decoder.plan import plan_of
from core.decoder.probe import Probe
from core.decoder.sites import softmax_over
from core.errors import BadInput
from core.models.find import open_checkpoint
from core.technique import NoOptions
from core.weights.cast import Cast
from core.weights.table import CastOptions
from tests.core.decoder.parity_models import CASES, Case, save, tokens

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
FULL = Reach()
TOLERANCE = 1e-4
COUNT = 150  # over the first bucket of 128
TOKENS = tokens(COUNT).tolist()
DENSE = [case for case in CASES if case.config().to_dict().get("num_experts", case.config().to_dict().get("num_local_experts")) is None]


@dataclass(frozen=True)
class Pair:
    """The plain decoder of a checkpoint, and a way to sessions of the device's."""

    plain: Decoder
    steps: Steps
    stores: Stores

    def layout(self) -> Layout:
        heads = tuple(block.attention.kv_heads for block in self.plain.blocks)
        return Layout(heads, self.plain.traits.head_size, COUNT, torch.float32)

    def reaches(self, reach: Reach) -> list[Reach]:
        return [reach & Reach(0, block.attention.window) for block in self.plain.blocks]

    def session(self, reach: Reach = FULL, room: Room = Room(COUNT, False), probe: Probe | None = None) -> DeviceSession:
        return DeviceSession(self.steps, self.stores, self.layout(), room, self.reaches(reach), probe or Probe())

    def expected(self, reach: Reach = FULL, fed: Sequence[int] = TOKENS) -> torch.Tensor:
        """Logits [T, V] of the plain decoder."""
        context = softmax_over(self.plain, Dynamic(NoOptions(), self.layout()), reach)
        with torch.inference_mode():
            return self.plain.logits(self.plain.forward(torch.tensor(fed), context, Probe()), Probe())


def pair_of(folder: Path) -> Pair:
    plan = plan_of(open_checkpoint(str(folder)))
    choice = RunConfig().set(["weights.name=cast"]).weights
    device = build_on(CPU, plan_of(open_checkpoint(str(folder))), choice, lambda *_: None)
    plain = build(plan, Cast(CastOptions("float32"), plan), lambda *_: None)
    return Pair(plain, Steps(device, CPU), Stores(device.decoder.ropes, CPU))


@pytest.fixture(scope="module", params=DENSE, ids=lambda case: case.name)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp(request.param.name)
    save(request.param, folder)
    return pair_of(folder)


def passes(session: DeviceSession, sizes: Sequence[int]) -> torch.Tensor:
    """All logits of TOKENS in passes of these sizes."""
    parts, first = [], 0
    for size in sizes:
        parts.append(session.forward(TOKENS[first : first + size], all_logits=True))
        first += size
    return torch.cat(parts)


def test_that_prompts_and_steps_give_the_logits_of_the_plain_decoder(pair: Pair) -> None:
    found = passes(pair.session(), [70, 40, 1, 5, 1, 1, 20, 12])
    assert (found - pair.expected()).abs().max() < TOLERANCE


@pytest.mark.parametrize("reach", [Reach(0, 20), Reach(3, 20)], ids=["window", "sink_window"])
def test_that_windows_and_sinks_hide_what_they_hide_in_the_plain_decoder(pair: Pair, reach: Reach) -> None:
    found = passes(pair.session(reach), [100, 30, 1, 7, 12])
    assert (found - pair.expected(reach)).abs().max() < TOLERANCE
