"""The compiled step around what torch computes of a layer: attention it does not know, and failures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import sleep

import pytest
import torch
from test_fused import FAMILIES, TOKENS, decoder_for, passes, session_over
from torch import Tensor

from core.attention.mask import Reach
from core.attention.mechanism import Mechanism, Rows, Store
from core.attention.scores import visible
from core.attention.selective import Look, Selective
from core.attention.softmax import Softmax, attend
from core.cache.base import Cache, KeyValues
from core.cache.dynamic import Dynamic
from core.cache.off import Off
from core.cache.rolling import Rolling
from core.cache.table import RollingOptions
from core.decoder.fused import runner
from core.decoder.fused.step import step
from core.decoder.model import Decoder
from core.decoder.probe import Probe
from core.decoder.sites import sites_of
from core.engine.local import LocalSession
from core.technique import NoOptions

pytestmark = pytest.mark.usefixtures("one_thread")
WINDOW, SIZES = Reach(2, 6), (5, 1, 1, 20, 3, 1)
Change = Callable[[Softmax], Mechanism]


class Hidden(Selective):
    """The same attention, of which compiled passes do not know what it sees."""

    def __init__(self, known: Softmax) -> None:
        super().__init__(known.site)
        self.pattern = known.reach

    def attended(self, look: Look, rows: Rows) -> Tensor:
        return attend(look.q, look.kv, rows, self.pattern & look.held, self.site)

    def seen(self, look: Look) -> Tensor:
        return visible(self.pattern, look.positions, look.kv)


class RowByRow(Hidden):
    """Every row computed alone."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, store: Store, rows: Rows) -> Tensor:
        kv, done = store.update(k, v), []
        for row, position in enumerate(rows.positions.tolist()):
            seen = slice(0, position + 1)
            alone = KeyValues(kv.keys[:, seen].clone(), kv.values[:, seen].clone(), kv.positions[seen])
            done.append(attend(q[row, None].clone(), alone, Rows(rows.positions[row, None], rows.probe), Reach(), self.site))
        return torch.cat(done)


class Slow(Hidden):
    def attend(self, q: Tensor, k: Tensor, v: Tensor, store: Store, rows: Rows) -> Tensor:
        sleep(0.02)
        return super().attend(q, k, v, store, rows)


class Failing(Hidden):
    failures = 1

    def attend(self, q: Tensor, k: Tensor, v: Tensor, store: Store, rows: Rows) -> Tensor:
        self.failures -= 1
        if self.failures >= 0:
            raise KeyboardInterrupt
        return super().attend(q, k, v, store, rows)


def session_for(
    decoder: Decoder,
    change: Change | None,
    layers: Sequence[int] = (0, 1, 2),
    cache: type[Cache] = Dynamic,
    options: object = None,
    probe: Probe | None = None,
) -> LocalSession:
    """Window attention, replaced by `change` in `layers`; without it, plain torch."""
    return session_over(decoder, window(decoder, change, layers), change is not None, cache, options, probe)


def window(decoder: Decoder, change: Change | None, layers: Sequence[int] = (0, 1, 2)) -> list[Mechanism]:
    """Window attention of each layer, replaced by `change`, where there is one, in `layers`."""
    known = [Softmax(site, WINDOW) for site in sites_of(decoder, TOKENS, torch.float32)]
    return [change(one) if change and layer in layers else one for layer, one in enumerate(known)]


def distance(
    decoder: Decoder, layers: Sequence[int] = (0, 1, 2), cache: type[Cache] = Dynamic, options: object = None
) -> float:
    """The largest difference of any logit from plain torch."""
    sessions = [session_for(decoder, change, layers, cache, options) for change in (Hidden, None)]
    compiled, plain = (passes(session, SIZES) for session in sessions)
    return float((compiled - plain).abs().max())


@pytest.mark.parametrize("layers", [(0, 1, 2), (1,), (0, 2)])
@pytest.mark.parametrize("family", FAMILIES)
def test_that_layers_that_attend_outside_equal_plain_torch(family: str, layers: tuple[int, ...]) -> None:
    assert distance(decoder_for(family), layers) < 1e-4


@pytest.mark.parametrize(("cache", "options"), [(Off, NoOptions()), (Rolling, RollingOptions(window=7))])
def test_that_caches_without_slots_equal_plain_torch(cache: type[Cache], options: object) -> None:
    assert distance(decoder_for(), (1,), cache, options) < 1e-4


def test_that_a_row_comes_out_the_same_bit_for_bit_whatever_its_company() -> None:
    decoder, tokens = decoder_for("llama", "weights.name=rtn", "weights.group_size=32"), [(5 * i) % 128 for i in range(24)]
    alone, together = (session_for(decoder, RowByRow, (0, 2)) for _ in range(2))
    one_by_one = torch.cat([alone.forward([token], all_logits=True) for token in tokens])
    assert torch.equal(one_by_one, together.forward(tokens, all_logits=True))


def test_that_time_outside_is_charged_to_its_phase() -> None:
    probe = Probe()
    session = session_for(decoder_for(), Slow, probe=probe)
    session.forward([1, 2])
    probe.take()
    session.forward([3])
    phases = probe.take()
    assert phases["attention"] >= 60
    assert max(phases[name] for name in ("norm", "ffn", "head")) < 60


def test_that_what_stops_a_pass_leaves_the_threads_ready_for_the_next() -> None:
    torch.set_num_threads(2)
    decoder = decoder_for()
    session, plain = session_for(decoder, Failing, (1,)), session_for(decoder, None)
    with pytest.raises(KeyboardInterrupt):
        session.forward([1, 2, 3])
    again = session.forward([1, 2, 3], all_logits=True)
    assert (again - plain.forward([1, 2, 3], all_logits=True)).abs().max() < 1e-4


@pytest.mark.parametrize("change", [None, Hidden])
def test_that_an_error_of_a_helper_ends_the_pass_and_the_next_one_is_whole(
    change: Change | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where thread 0 is in Python meanwhile."""
    torch.set_num_threads(2)
    decoder = decoder_for()
    sessions = [session_over(decoder, window(decoder, change, (1,)), compiled) for compiled in (True, False)]

    def failing(thread: int, *addresses: int) -> None:
        if thread:
            raise MemoryError("no room for a helper")
        step(thread, *addresses)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "step", failing)
        with pytest.raises(MemoryError, match="no room for a helper"):
            sessions[0].forward([1, 2, 3])
    compiled, plain = (session.forward([1, 2, 3], all_logits=True) for session in sessions)
    assert (compiled - plain).abs().max() < 1e-4


def test_that_an_error_of_compiled_code_comes_through() -> None:
    """Query heads are divided by KV heads, of which there are none."""
    torch.set_num_threads(2)
    decoder = decoder_for()
    session = session_over(decoder, window(decoder, None), True)
    session.forward([1])
    assert session.fused is not None
    counts = session.fused._runs[session.context].layers["kv_heads"]
    before, counts[1] = counts[1], 0
    with pytest.raises(ZeroDivisionError):
        session.forward([2])
    counts[1] = before
    assert session.forward([2]).isfinite().all()


def test_that_both_kinds_of_attention_are_captured() -> None:
    decoder, seen = decoder_for(), []
    for change in (Hidden, None):
        probe = Probe(attention_layers=(0, 1))
        session = session_for(decoder, change, (1, 2), probe=probe)
        session.forward(list(range(11)))
        session.forward([3, 4])
        seen.append(probe.take_attention())
    for layer in (0, 1):
        (compiled, at, mass), (plain, expected_at, expected_mass) = seen[0][layer], seen[1][layer]
        assert at.tolist() == expected_at.tolist()
        assert abs(compiled.astype(float) - plain.astype(float)).max() < 1e-3
        assert abs(mass - expected_mass).max() < 1e-4
