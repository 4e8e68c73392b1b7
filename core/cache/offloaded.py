"""A cache in a memory-mapped file, of which only the layer at work and the next one are in memory."""

from __future__ import annotations

import mmap
import os
from tempfile import TemporaryFile
from typing import Self

import torch
from torch import Tensor

from core.cache.base import Cache, KeyValues, Layout
from core.errors import BadInput, RunFailed
from core.folders import cache_folder
from core.technique import NoOptions


class Offloaded(Cache):
    """Slot i holds position i, of the keys and then of the values of a layer, layer after layer, each from a new page on.

    While a layer attends, the next one is read ahead; the one before it is dropped from memory, which leaves it in the file.
    The file has no name, so that it vanishes with the cache.
    """

    def __init__(self, options: NoOptions, layout: Layout) -> None:
        super().__init__(options, layout)
        if not hasattr(mmap.mmap, "madvise"):
            raise BadInput("cache.name=offloaded: this system cannot drop parts of a mapped file; use cache.name=dynamic")
        self.options, self.capacity = options, layout.tokens
        sizes = [_paged(layout.layer_nbytes(layer) * self.capacity) for layer in range(len(layout.kv_heads))]
        self._regions = [(sum(sizes[:layer]), size) for layer, size in enumerate(sizes)]
        self._map = _mapped(max(mmap.PAGESIZE, sum(sizes)))
        self.keys, self.values = zip(*(self._slabs(layer) for layer in range(len(sizes))), strict=True)
        self._at: int | None = None  # the layer in memory

    def _slabs(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values [G, capacity, D] in the file."""
        start, heads, slabs = self._regions[layer][0], self.layout.kv_heads[layer], []
        for size in self.layout.size(layer):
            count = heads * self.capacity * size
            slab = torch.frombuffer(self._map, dtype=self.layout.dtype, count=count, offset=start) if count else torch.empty(0)
            slabs.append(slab.view(heads, self.capacity, size))
            start += count * self.layout.dtype.itemsize
        return slabs[0], slabs[1]

    def update(self, layer: int, k: Tensor, v: Tensor) -> KeyValues:
        end = self.length + len(k)
        if end > self.capacity:
            raise BadInput(f"the offloaded cache has room for the {self.capacity} tokens of its run, and {end} were fed")
        self._enter(layer)
        keys, values = self.keys[layer][:, :end], self.values[layer][:, :end]
        for part, fed in ((keys, k), (values, v)):
            part[:, self.length :] = fed.transpose(0, 1)
        return KeyValues(keys, values, torch.arange(end))

    def _enter(self, layer: int) -> None:
        """Drop the layer that was at work, and read the one after `layer` ahead."""
        if self._at != layer:
            self._advise(mmap.MADV_DONTNEED, self._at)
            self._advise(mmap.MADV_WILLNEED, (layer + 1) % len(self._regions))
            self._at = layer

    def _advise(self, what: int, layer: int | None) -> None:
        if layer is not None and self._regions[layer][1]:
            self._map.madvise(what, *self._regions[layer])

    def advance(self, count: int) -> None:
        super().advance(count)
        self._advise(mmap.MADV_DONTNEED, self._at)
        self._at = None

    def trim(self, length: int) -> None:
        self.length = min(self.length, length)

    def fork(self) -> Self:
        branch = type(self)(self.options, self.layout)
        for layer in range(len(self._regions)):
            for mine, other in ((self.keys, branch.keys), (self.values, branch.values)):
                other[layer][:, : self.length] = mine[layer][:, : self.length]
            for cache in (self, branch):
                cache._advise(mmap.MADV_DONTNEED, layer)
        branch.length = self.length
        return branch

    @property
    def nbytes(self) -> int:
        """In memory: two layers at most."""
        return self.length * sum(sorted(map(self.layout.layer_nbytes, range(len(self._regions))))[-2:])

    @property
    def offloaded(self) -> int:
        return self.length * self.layout.token_nbytes

    @property
    def tokens(self) -> int:
        return self.length


def _paged(nbytes: int) -> int:
    return -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE


def _mapped(nbytes: int) -> mmap.mmap:
    """A file without a name, all of it on disk already: a disk that fills up later would kill the process."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, nbytes)
            return mmap.mmap(file.fileno(), nbytes)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise RunFailed(f"{folder}: no room for the {nbytes / 2**20:.0f} MiB of the offloaded cache: {reason}") from error
