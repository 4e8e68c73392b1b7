"""Memory for dense matrices in large pieces: a pass over them waits for addresses where pages are small."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from core.decoder.plan import Source

_PIECE = 1 << 25  # bytes
_LINE = 64  # bytes that a matrix begins at a multiple of


class Slab:
    """Where the matrices of one model go, one after the other. NumPy asks for huge pages for pieces of this size."""

    def __init__(self) -> None:
        self._free = torch.empty(0, dtype=torch.uint8)

    def stacked(self, sources: Sequence[Source], dtype: torch.dtype) -> torch.Tensor:
        """The rows of all `sources`, one under the other, as `dtype`."""
        rows, columns = sum(source.shape[0] for source in sources), sources[0].shape[1]
        nbytes = rows * columns * dtype.itemsize
        if nbytes > len(self._free):
            self._free = torch.from_numpy(np.empty(max(nbytes, _PIECE), np.uint8))
        place = self._free[:nbytes].view(dtype).view(rows, columns)
        self._free = self._free[-(-nbytes // _LINE) * _LINE :]
        return torch.cat([source.dense(dtype) for source in sources], out=place)
