"""Work on a GPU recorded once and replayed as one launch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_WARM = 2  # runs before recording: kernels are compiled, and libraries take their memory

Work = Callable[[], Tensor]


def repeated(work: Work, device: torch.device) -> Work:
    """`work` to be done many times on the same buffers: recorded on CUDA, as it is elsewhere."""
    return _recorded(work) if device.type == "cuda" else work


def _recorded(work: Work) -> Work:
    """The result lies at one address, and is overwritten by the next replay."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay
