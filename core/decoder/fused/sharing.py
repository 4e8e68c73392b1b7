"""Work divided among threads: most of it beforehand, and the rest by whoever is done first.

No thread waits long for one that has a slower core, or has had to make way for another program.
"""

from __future__ import annotations

from numba import njit

from core.decoder.fused.machine import atomic_add

_SURE = 3  # quarters that are divided beforehand
_TURNS = 8  # about so many a thread takes to the rest


@njit(nogil=True)
def even_share(p, thread, count):
    """The first and last of `count` pieces that are a thread's where all take as many."""
    return count * thread // p.threads, count * (thread + 1) // p.threads


@njit(nogil=True)
def first_share(p, thread, count):
    """The first and last of `count` pieces that a thread begins with."""
    return even_share(p, thread, _sure(p, count))


@njit(nogil=True)
def next_share(p, place, count, least):
    """What a thread does next: `least` pieces or more that no other has, from `count` on where there are none.

    place: of the counter in `p.claims`; each piece of work of a pass has its own.
    """
    sure = _sure(p, count)
    if sure == count:
        return count, count
    step = max(least, (count - sure) // (_TURNS * p.threads))
    begin = sure + atomic_add(p.claims + 8 * place, step)
    return begin, min(count, begin + step)


@njit(nogil=True)
def _sure(p, count):
    return count if p.threads == 1 else count * _SURE // 4
