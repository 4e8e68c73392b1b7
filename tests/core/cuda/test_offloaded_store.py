"""Keys and values in the host's memory, against those that stay on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from core.cuda.copies import Direct
from core.cuda.offloaded import Offloaded
from core.cuda.session import DeviceSession, Room
from core.cuda.store import Resident, Store
from core.decoder.probe import Probe
from tests.core.cuda.device_models import COUNT, TOKENS, Pair, pair_of, passes
from tests.core.decoder.parity_models import CASES, save

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
AWAY = Room(COUNT, whole=False, kind=Offloaded)
SIZES = [70, 40, 1, 5, 1, 1, 20, 12]


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp(request.param)
    save(next(case for case in CASES if case.name == request.param), folder)
    return pair_of(folder)


class Late(Direct):
    """Copies at the last moment: when something waits for them. `log`: what each copies into and from, and after which mark."""

    def __init__(self) -> None:
        self._asked: list[Callable[[], object]] = []
        self._over = self._now = 0
        self.log: list[tuple[int, int, int]] = []

    def now(self) -> Any:
        self._now += 1
        return self._now

    def copy(self, into: Tensor, source: Tensor, after: Any) -> Any:
        self._asked.append(lambda: into.copy_(source))
        self.log.append((into.data_ptr(), source.data_ptr(), after))
        return len(self._asked)

    def wait(self, mark: Any) -> None:
        for ask in self._asked[self._over : mark]:
            ask()
        self._over = max(self._over, mark)

    def settle(self) -> None:
        self.wait(len(self._asked))


def test_that_logits_are_those_of_a_resident_cache(pair: Pair) -> None:
    away, here = (passes(pair.session(room=room), SIZES) for room in (AWAY, Room(COUNT, whole=False)))
    assert (away - here).abs().max() < 1e-5
    assert (away - pair.expected()).abs().max() < 1e-4


def test_that_what_is_taken_back_was_never_there(pair: Pair) -> None:
    session = pair.session(room=AWAY)
    session.forward(TOKENS[:90])
    session.forward([5, 6, 7, 8, 9], all_logits=True)
    session.trim(92)
    session.forward(TOKENS[92:120], all_logits=True)
    session.trim(60)
    found = session.forward(TOKENS[60:], all_logits=True)
    assert (found - pair.expected()[60:]).abs().max() < 1e-4


def test_that_two_layers_are_on_the_device_and_all_in_the_host(pair: Pair) -> None:
    session = pair.session(room=AWAY)
    session.forward(TOKENS[:100])
    layers = len(session.layout.kv_heads)
    assert session.kv_bytes == 128 * session.layout.token_nbytes * 2 / layers
    assert session.held(0).offloaded == 100 * session.layout.token_nbytes
    assert session.kv_read == 100 * session.layout.token_nbytes
    assert pair.session().held(0).offloaded == 0


def test_that_steps_are_not_captured_and_their_phases_are_known(pair: Pair) -> None:
    probe = Probe()
    session = pair.session(room=AWAY, probe=probe)
    session.forward(TOKENS[:10])
    probe.take()
    session.forward(TOKENS[10:11])
    assert set(probe.take()) == {"embed", "norm", "attention", "ffn", "head"}
    assert session._store is not None
    assert not session._store.steps


def on_late_copies(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> tuple[DeviceSession, Late]:
    late = Late()
    monkeypatch.setattr("core.cuda.offloaded.copies_on", lambda *_: late)
    return pair.session(room=AWAY), late


def test_that_nothing_is_read_before_it_is_there(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    session, late = on_late_copies(pair, monkeypatch)
    assert (passes(session, [60, 1, 5, 54, 30]) - pair.expected()).abs().max() < 1e-4
    assert late.log
    assert len(late._asked) > late._over, "the first layer of a pass that does not come is still under way"


def test_that_no_buffer_is_copied_before_the_layer_in_it_is_done(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each copy from or to a buffer comes after a mark that was set since the buffer was last handed out."""
    session, late = on_late_copies(pair, monkeypatch)
    session.forward(TOKENS[:1])
    store = session._store
    assert isinstance(store, Offloaded)
    enter, handed = store.enter, dict[int, int]()  # the last mark before a buffer was handed out
    late.log.clear()

    def check() -> None:
        assert all(after > handed.get(place, 0) for *places, after in late.log for place in places)
        late.log.clear()

    def entered(layer: int) -> tuple[Tensor, Tensor]:
        found = enter(layer)
        check()
        handed[store.buffers[store._at].data_ptr()] = late._now
        return found

    monkeypatch.setattr(store, "enter", entered)
    for token in TOKENS[1:4]:
        session.forward([token])
        assert late.log
        check()


def test_that_a_larger_store_takes_over_what_is_held(pair: Pair) -> None:
    layout = pair.layout(torch.float32)
    small, large = (Offloaded(layout, capacity, 1, (), CPU) for capacity in (128, 256))
    for layer in small.host:
        layer[:100] = torch.randn(layer[:100].shape)
    large.copy(small, 100)
    assert all(torch.equal(new[:100], old[:100]) for new, old in zip(large.host, small.host, strict=True))


@pytest.mark.parametrize("kind", [Resident, Offloaded])
def test_that_stores_are_kept_only_for_captured_steps(pair: Pair, kind: type[Store]) -> None:
    layout = pair.layout(torch.float32)
    first, second = (pair.stores.take(Late(), layout, 512, kind=kind) for _ in range(2))
    assert (first is second) == (kind is Resident)


def test_that_a_gpu_gives_what_it_gives_with_a_resident_cache(gpu: torch.device, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("llama")
    save(next(case for case in CASES if case.name == "llama"), folder)
    pair = pair_of(folder, device=gpu)
    for _ in range(3):
        away, here = (passes(pair.session(room=room), SIZES) for room in (AWAY, Room(COUNT, whole=False)))
        assert (away - here).abs().max() < 1e-4
