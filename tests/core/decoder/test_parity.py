"""The decoder against transformers: the same logits from the same files, for every family and every way through a cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from parity_models import CASES, save, tokens

from core.attention.mask import FULL, Reach
from core.cache.base import Cache, Layout
from core.cache.dynamic import Dynamic
from core.cache.rolling import Rolling
from core.cache.static import Static
from core.cache.table import RollingOptions, StaticOptions
from core.decoder.build import build
from core.decoder.model import Decoder
from core.decoder.plan import plan_of
from core.decoder.probe import Probe
from core.decoder.sites import softmax_over
from core.models.find import open_checkpoint
from core.technique import NoOptions
from core.weights.cast import Cast
from core.weights.table import CastOptions

pytestmark = pytest.mark.usefixtures("one_thread")
TOLERANCE = 1e-4
PROMPT, STEPS, ROLLED = 40, 16, 24
TOKENS = tokens(PROMPT + STEPS)


@dataclass(frozen=True)
class Pair:
    """Our decoder of a case, and transformers' logits [PROMPT + STEPS, V] for TOKENS."""

    decoder: Decoder
    expected: torch.Tensor


def decoder_of(path: Path) -> Decoder:
    plan = plan_of(open_checkpoint(str(path)))
    return build(plan, Cast(CastOptions("float32"), plan), lambda *_: None)


def layout_of(decoder: Decoder) -> Layout:
    heads = tuple(block.attention.kv_heads for block in decoder.blocks)
    return Layout(heads, decoder.traits.head_size, PROMPT + STEPS, torch.float32)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp(request.param.name)
    model = save(request.param, folder)
    with torch.no_grad():
        expected = model(TOKENS[None]).logits[0]
    return Pair(decoder_of(folder), expected)


def logits(decoder: Decoder, cache: Cache, chunks: list[int], reach: Reach = FULL) -> torch.Tensor:
    """Logits of all TOKENS, fed in `chunks` and the rest one by one."""
    sizes = [*chunks, *[1] * (len(TOKENS) - sum(chunks))]
    probe, context = Probe(), softmax_over(decoder, cache, reach)
    with torch.inference_mode():
        hidden = [decoder.forward(part, context, probe) for part in TOKENS.split(sizes)]
        return decoder.logits(torch.cat(hidden), probe)


@pytest.mark.parametrize("chunks", [[PROMPT], [16, 16, 8], [1, 3, 36]], ids=["whole", "chunked", "uneven"])
def test_that_logits_equal_those_of_transformers(pair: Pair, chunks: list[int]) -> None:
    found = logits(pair.decoder, Dynamic(NoOptions(), layout_of(pair.decoder)), chunks)
    assert (found - pair.expected).abs().max() < TOLERANCE


def test_that_a_static_cache_gives_the_same_logits(pair: Pair) -> None:
    found = logits(pair.decoder, Static(StaticOptions(), layout_of(pair.decoder)), [32, 8])
    assert (found - pair.expected).abs().max() < TOLERANCE


def test_that_a_rolling_cache_as_long_as_the_run_gives_the_same_logits(pair: Pair) -> None:
    cache = Rolling(RollingOptions(len(TOKENS)), layout_of(pair.decoder))
    assert (logits(pair.decoder, cache, [16, 24]) - pair.expected).abs().max() < TOLERANCE


def test_that_a_rolling_cache_gives_the_logits_of_its_window_as_a_mask(pair: Pair) -> None:
    rolling = logits(pair.decoder, Rolling(RollingOptions(ROLLED), layout_of(pair.decoder)), [16, 24])
    masked = logits(pair.decoder, Dynamic(NoOptions(), layout_of(pair.decoder)), [PROMPT], Reach(0, ROLLED))
    assert (rolling - masked).abs().max() < TOLERANCE
    if None not in pair.decoder.traits.windows:  # the model's own windows are shorter: nothing is lost
        assert (rolling - pair.expected).abs().max() < TOLERANCE
