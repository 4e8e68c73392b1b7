"""Stop inside a pass, and a clock of the engine's own work."""

from collections.abc import Iterator
from time import sleep

import pytest

from core.engine.backend import Stopped
from core.engine.stages import Stages
from core.engine.watch import Clock, Watch


def test_that_stop_is_noticed_between_two_parts_of_a_pass() -> None:
    watch = Watch(lambda: True)
    watch.start()
    watch.lap("norm")  # too soon to ask
    sleep(0.03)
    with pytest.raises(Stopped):
        watch.lap("attention")


def test_that_the_longest_time_without_a_look_is_known() -> None:
    watch = Watch(lambda: False)
    watch.start()
    sleep(0.05)
    watch.lap("attention")
    watch.look()
    assert 0.05 <= watch.longest_blind < 1


def test_that_the_readers_time_is_not_the_engines() -> None:
    clock = Clock()

    def events() -> Iterator[float]:
        for _ in range(3):
            sleep(0.01)
            yield clock.ms()

    for _ in clock.outside(events()):
        sleep(0.2)
    assert 30 <= clock.ms() < 500


def test_that_a_pass_is_charged_to_its_stage_without_what_it_captured() -> None:
    watch = Watch(lambda: False)
    clock = Clock()
    stages = Stages(clock, watch)
    with stages.passing("decode"):
        sleep(0.01)
        watch.lap("attention")
        sleep(0.02)
        watch.lap("capture")
    taken = stages.take()
    assert set(taken) == {"decode", "decode.attention", "capture"}
    assert 10 <= taken["decode.attention"] <= taken["decode"]
    assert taken["capture"] >= 20
    assert taken["decode"] + taken["capture"] <= clock.ms()
    assert stages.take() == {}
