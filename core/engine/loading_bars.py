"""What transformers draws as progress bars while it loads, told to a progress callback instead."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any
from unittest.mock import patch

from core.engine.backend import Progress

# The modules whose `tqdm` counts tensors: dequantizing GGUF blocks, placing weights.
_MODULES = ("transformers.modeling_gguf_pytorch_utils", "transformers.core_model_loading")


@contextmanager
def bars_told_to(progress: Progress) -> Iterator[None]:
    """In the block, loops under a bar draw nothing and call `progress("reading", done, total)`, which may raise to cancel."""

    def watched(items: Collection[Any], **_options: Any) -> Iterator[Any]:
        for done, item in enumerate(items):
            progress("reading", done, len(items))
            yield item

    with ExitStack() as stack:
        for name in _MODULES:
            stack.enter_context(patch.object(import_module(name), "tqdm", watched))
        yield
