"""Sparse patterns in the compiled step, against plain torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_fused import TOKENS, decoder_for, passes, session_over

from core.attention.bigbird import BigBird
from core.attention.dilated import Dilated
from core.attention.gathered import Gathered
from core.attention.local_global import LocalGlobal
from core.attention.mask import Sparse
from core.attention.strided import Strided
from core.cache.rolling import Rolling
from core.cache.table import RollingOptions
from core.decoder.fused.form import inside_of
from core.decoder.model import Decoder
from core.decoder.probe import Probe
from core.decoder.sites import sites_of
from core.engine.local import LocalSession

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = (5, 1, 1, 20, 3, 1)
PATTERNS = {
    "dilated": Dilated(4, 3),
    "strided": Strided(5, 4),
    "local_global": LocalGlobal(3, 2, 9),
    "bigbird": BigBird(4, 1, 1, 2, 3, heads=2),
}


def session_for(decoder: Decoder, pattern: Sparse, compiled: bool = True, **others: Any) -> LocalSession:
    sites = sites_of(decoder, TOKENS, torch.float32)
    return session_over(decoder, [Gathered(site, pattern) for site in sites], compiled, **others)


def listed(session: LocalSession) -> bool:
    return all(pattern is not None for pattern in inside_of(session.context, 1, Probe())[0])


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_that_a_sparse_pattern_in_the_compiled_step_equals_plain_torch(pattern: Sparse) -> None:
    decoder = decoder_for()
    session = session_for(decoder, pattern)
    assert listed(session)
    assert (passes(session, SIZES) - passes(session_for(decoder, pattern, False), SIZES)).abs().max() < 1e-4


@pytest.mark.parametrize("pattern", [LocalGlobal(200, 3, 5), BigBird(16, 9, 1, 4, 0, heads=2)])
def test_that_it_takes_lists_of_many_chunks(pattern: Sparse) -> None:
    decoder = decoder_for()
    compiled, plain = (session_for(decoder, pattern, inside) for inside in (True, False))
    for session in (compiled, plain):
        session.forward([(3 * i) % 128 for i in range(400)])
    assert (passes(compiled, (1, 4)) - passes(plain, (1, 4))).abs().max() < 1e-4


@pytest.mark.parametrize("threads", [1, 2])
def test_that_a_row_comes_out_the_same_bit_for_bit_whatever_its_company(threads: int) -> None:
    torch.set_num_threads(threads)
    decoder, tokens = decoder_for("llama", "weights.name=rtn", "weights.group_size=32"), [(5 * i) % 128 for i in range(24)]
    alone, together = (session_for(decoder, PATTERNS["bigbird"]) for _ in range(2))
    one_by_one = torch.cat([alone.forward([token], all_logits=True) for token in tokens])
    assert torch.equal(one_by_one, together.forward(tokens, all_logits=True))


def test_that_caches_whose_slots_are_not_positions_are_left_to_torch() -> None:
    decoder, pattern = decoder_for(), PATTERNS["strided"]
    compiled, plain = (
        session_for(decoder, pattern, inside, cache=Rolling, options=RollingOptions(window=7)) for inside in (True, False)
    )
    assert not listed(compiled)
    assert (passes(compiled, SIZES) - passes(plain, SIZES)).abs().max() < 1e-4


def test_that_what_is_shown_of_a_pattern_is_left_to_torch() -> None:
    decoder, seen = decoder_for(), []
    for compiled in (True, False):
        probe = Probe(attention_layers=(1,))
        session_for(decoder, PATTERNS["local_global"], compiled, probe=probe).forward(list(range(30)))
        seen.append(probe.take_attention()[1])
    (weights, positions, mass), (expected, expected_positions, expected_mass) = seen
    assert positions.tolist() == expected_positions.tolist()
    assert abs(weights.astype(float) - expected.astype(float)).max() < 1e-3
    assert mass is not None
    assert expected_mass is not None
    assert abs(mass - expected_mass).max() < 1e-4


@pytest.mark.parametrize("family", ["mistral", "gemma2"])
def test_that_it_knows_the_window_and_the_cap_of_a_layer(family: str) -> None:
    decoder, pattern = decoder_for(family), LocalGlobal(50, 2, 3)
    compiled, plain = (passes(session_for(decoder, pattern, inside), SIZES) for inside in (True, False))
    assert (compiled - plain).abs().max() < 1e-4
