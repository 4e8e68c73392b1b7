"""Memory that is kept from call to call."""

import threading

import numpy as np

from core.compiled.room import Room


def test_that_room_is_kept_grows_and_begins_with_a_line() -> None:
    room = Room()
    first = room.bytes(100)
    assert first.shape == (100,)
    first[:] = 7
    assert room.bytes(50).tolist() == [7] * 50
    for count in (1, 100, 5000):
        assert room.bytes(count).ctypes.data % 64 == 0
        assert len(room.bytes(count)) == count


def test_that_each_thread_has_room_of_its_own() -> None:
    room, found = Room(), []
    room.bytes(8)[:] = 1
    thread = threading.Thread(target=lambda: found.append(room.bytes(8)))
    thread.start()
    thread.join()
    found[0][:] = 2
    assert not np.shares_memory(found[0], room.bytes(8))
    assert room.bytes(8).tolist() == [1] * 8
