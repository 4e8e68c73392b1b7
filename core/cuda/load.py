"""Whether the local engine goes to the GPU, decided where torch can be asked, and the way there."""

from __future__ import annotations

import torch

from core.config import RunConfig
from core.decoder.plan import Plan
from core.engine.backend import Backend, Progress
from core.errors import BadInput
from core.models.info import ModelInfo
from core.models.tokenizer import Tokenizer


def usable(config: RunConfig) -> bool:
    """Whether torch can use the GPU that the driver shows; BadInput where it cannot and `config` insists on it."""
    if torch.cuda.is_available():
        return True
    if config.engine.options.device == "cuda":
        raise BadInput(
            f"engine.device=cuda: torch {torch.__version__} cannot use this machine's GPU, mostly because the NVIDIA driver is "
            "older than the CUDA it was built with; use engine.device=cpu"
        )
    return False


def on_cuda(config: RunConfig, info: ModelInfo, tokenizer: Tokenizer, plan: Plan, progress: Progress) -> Backend:
    """The backend of a plan to which heads and ffn techniques were applied."""
    from core.cuda.backend import DeviceBackend

    return DeviceBackend(config, info, tokenizer, plan, torch.device("cuda"), progress)
