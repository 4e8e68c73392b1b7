"""Blocks, keys and buckets that rows choose, in the compiled step, against plain torch."""

from __future__ import annotations

import pytest
import torch
from test_fused import TOKENS, decoder_for, passes, session_over

from core.attention.mechanism import mechanisms
from core.config import RunConfig
from core.decoder.fused import runner
from core.decoder.fused.form import inside_of
from core.decoder.model import Decoder
from core.decoder.probe import Probe
from core.decoder.sites import sites_of
from core.engine.local import LocalSession

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = (5, 1, 1, 20, 3, 1, 1, 7, 1)
SETTINGS = [
    "name=block_topk block=4 blocks=2 sink_blocks=1 local_blocks=1",
    "name=block_topk block=4 blocks=2 sink_blocks=1 local_blocks=1 scores=mean",
    "name=block_topk block=3 blocks=1 sink_blocks=0 local_blocks=2",
    "name=block_topk block=1 blocks=5 sink_blocks=0 local_blocks=1",
    "name=block_topk block=8 blocks=0 sink_blocks=0 local_blocks=1",
    "name=topk k=5",
    "name=topk k=1",
    "name=topk k=1000",
    "name=lsh hashes=2 buckets=6 window=3",
    "name=lsh hashes=1 buckets=2 window=1",
    "name=lsh hashes=3 buckets=20 window=1000",
]
ONE_OF_EACH = [SETTINGS[0], SETTINGS[5], SETTINGS[8]]


def session_for(decoder: Decoder, settings: str, compiled: bool = True, probe: Probe | None = None) -> LocalSession:
    choice = RunConfig().set([f"attention.{one}" for one in settings.split()]).attention
    return session_over(decoder, mechanisms(choice, sites_of(decoder, TOKENS, torch.float32)), compiled, probe=probe)


@pytest.mark.parametrize("settings", SETTINGS)
def test_that_what_rows_choose_in_the_compiled_step_equals_plain_torch(settings: str) -> None:
    decoder = decoder_for()
    session = session_for(decoder, settings)
    assert all(seen is not None for seen in inside_of(session.context, 1, Probe())[0])
    assert (passes(session, SIZES) - passes(session_for(decoder, settings, False), SIZES)).abs().max() < 1e-4


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize(
    "settings", ["name=topk k=150", "name=lsh hashes=2 buckets=4", "name=block_topk blocks=5 local_blocks=1"]
)
def test_that_rows_choose_among_many_chunks(settings: str, family: str) -> None:
    """And go on after a prompt."""
    decoder = decoder_for(family)
    compiled, plain = (session_for(decoder, settings, inside) for inside in (True, False))
    for session in (compiled, plain):
        session.forward([(3 * i) % 128 for i in range(400)])
    assert (passes(compiled, (1, 20, 4)) - passes(plain, (1, 20, 4))).abs().max() < 1e-4


@pytest.mark.parametrize("settings", ONE_OF_EACH)
def test_that_choices_go_on_where_another_kind_of_pass_ended(settings: str) -> None:
    """Passes that show attention are computed outside."""
    decoder, found = decoder_for(), []
    for compiled in (True, False):
        probe = Probe()
        session = session_for(decoder, settings, compiled, probe)
        parts = []
        for turn, size in enumerate((6, 1, 1, 2, 1, 1, 1, 5, 1, 1, 1, 1)):
            probe.attention_layers = frozenset((0, 2)) if turn % 3 == 1 else frozenset()
            parts.append(passes(session, (size,)))
            if turn in (4, 7):
                session.trim(session.context.length - 1)
        found.append(torch.cat(parts))
    assert (found[0] - found[1]).abs().max() < 1e-4


@pytest.mark.parametrize("settings", ONE_OF_EACH)
@pytest.mark.parametrize("threads", [1, 2])
def test_that_a_row_comes_out_the_same_bit_for_bit_whatever_its_company(threads: int, settings: str) -> None:
    torch.set_num_threads(threads)
    decoder, tokens = decoder_for("llama", "weights.name=rtn", "weights.group_size=32"), [(5 * i) % 128 for i in range(24)]
    alone, together = (session_for(decoder, settings) for _ in range(2))
    one_by_one = torch.cat([alone.forward([token], all_logits=True) for token in tokens])
    assert torch.equal(one_by_one, together.forward(tokens, all_logits=True))


def test_that_layers_outside_choose_while_the_threads_of_the_step_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    monkeypatch.setattr(runner, "_ALONE", 0)
    decoder = decoder_for("mistral")
    compiled, plain = (passes(session_for(decoder, "name=topk k=4", inside), SIZES) for inside in (True, False))
    assert (compiled - plain).abs().max() < 1e-4


@pytest.mark.parametrize("settings", ONE_OF_EACH)
def test_that_sliding_layers_are_left_to_torch(settings: str) -> None:
    decoder = decoder_for("gemma2")
    session = session_for(decoder, settings)
    seen = inside_of(session.context, 1, Probe())[0]
    assert [one is None for one in seen] == [block.attention.window is not None for block in decoder.blocks]
    assert (passes(session, SIZES) - passes(session_for(decoder, settings, False), SIZES)).abs().max() < 1e-4
