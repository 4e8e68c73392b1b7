"""The decoder on GGUF files: the logits of the model that was converted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from tiny_models import MODELS, logits, tiny_model, write_gguf

from core.cache.base import Layout
from core.cache.dynamic import Dynamic
from core.decoder.build import build
from core.decoder.plan import plan_of
from core.decoder.probe import Probe
from core.decoder.sites import softmax_over
from core.models.find import open_checkpoint
from core.technique import NoOptions
from core.weights.cast import Cast
from core.weights.native import Native
from core.weights.table import CastOptions

pytestmark = pytest.mark.usefixtures("one_thread")
TOKENS = torch.arange(3, 40)  # what `logits` feeds


def decoded(path: Path, native: bool = False) -> torch.Tensor:
    plan = plan_of(open_checkpoint(str(path)))
    weights = Native(NoOptions(), plan) if native else Cast(CastOptions("float32"), plan)
    decoder = build(plan, weights, lambda *_: None)
    layout = Layout((plan.traits.kv_heads,) * plan.traits.layers, plan.traits.head_size, len(TOKENS), torch.float32)
    with torch.inference_mode():
        hidden = decoder.forward(TOKENS, softmax_over(decoder, Dynamic(NoOptions(), layout)), Probe())
        return decoder.logits(hidden, Probe())


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("kind", MODELS)
def test_that_a_gguf_file_gives_the_logits_of_the_converted_model(kind: str, native: bool, tmp_path: Path) -> None:
    model = tiny_model(kind)
    write_gguf(tmp_path / "tiny.gguf", model, tmp_path / "folder")
    assert (decoded(tmp_path / "tiny.gguf", native) - logits(model)).abs().max() < 1e-4


def test_that_frequency_divisors_in_the_file_stretch_rotations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """llama 3's scaling is written as one divisor for each frequency."""
    scaling = {"rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    model = tiny_model("llama", rope_parameters={**scaling, "original_max_position_embeddings": 16})
    plain = 100.0 ** -(torch.arange(0, 8, 2) / 8)
    divisors = (plain / model.model.rotary_emb.inv_freq).numpy()
    assert divisors.max() > 4
    also(monkeypatch, {"rope_freqs.weight": divisors})
    write_gguf(tmp_path / "tiny.gguf", model, tmp_path / "folder")
    assert (decoded(tmp_path / "tiny.gguf") - logits(model)).abs().max() < 1e-4


@pytest.mark.parametrize("original", [16, 64])
def test_that_long_and_short_divisors_are_chosen_by_length(
    original: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long, short = [1.5, 2.0, 3.0, 4.0], [1.0, 1.1, 1.2, 1.3]
    scaling = {"rope_type": "longrope", "rope_theta": 10000.0, "long_factor": long, "short_factor": short}
    model = tiny_model("phi3", rope_parameters=scaling, original_max_position_embeddings=original)
    factors = {"rope_factors_long.weight": np.float32(long), "rope_factors_short.weight": np.float32(short)}
    also(monkeypatch, factors, original)
    write_gguf(tmp_path / "tiny.gguf", model, tmp_path / "folder")
    assert (decoded(tmp_path / "tiny.gguf") - logits(model)).abs().max() < 1e-4


def also(monkeypatch: pytest.MonkeyPatch, tensors: dict[str, np.ndarray], original: int | None = None) -> None:
    """Let the next file hold `tensors` too, and the context that its rotations were trained on."""

    def add_name(writer: GGUFWriter, name: str) -> None:
        add(writer, name)
        for key, values in tensors.items():
            writer.add_tensor(key, values.astype(np.float32))
        if original is not None:
            writer.add_rope_scaling_orig_ctx_len(original)

    add = GGUFWriter.add_name
    monkeypatch.setattr(GGUFWriter, "add_name", add_name)
