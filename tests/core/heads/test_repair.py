"""W_o fitted to shared heads: a ridge regression on what they give, which brings the model nearer to what it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from models_with_heads import built, logits, opened, prepared, saved

from core.attention.context import Context
from core.cache.base import Layout
from core.cache.off import Off
from core.calibration import calibration_tokens
from core.decoder.model import Decoder
from core.decoder.plan import Plan
from core.decoder.preparation import Preparation
from core.decoder.probe import Probe
from core.decoder.sites import softmax_over
from core.errors import BadInput
from core.heads import repair
from core.heads.kv_sharing import apply
from core.heads.table import KvSharingOptions
from core.technique import NoOptions

pytestmark = pytest.mark.usefixtures("one_thread", "own_cache")


def shared(preparation: Preparation, repaired: bool, pool: str = "least_squares", layers: str = "all") -> Plan:
    plan = opened(preparation)
    apply(KvSharingOptions(1, pool, repaired, layers), plan, preparation)
    return plan


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize("pool", ["least_squares", "mean"])
def test_that_a_repaired_model_is_nearer_to_what_it_was(tmp_path: Path, family: str, pool: str) -> None:
    saved(family, tmp_path / "model")
    preparation = prepared(tmp_path / "model")
    plain = on_calibration(preparation, opened(preparation))
    before, after = (
        (on_calibration(preparation, shared(preparation, repaired, pool)) - plain).square().mean() for repaired in (False, True)
    )
    assert after < 0.8 * before


def on_calibration(preparation: Preparation, plan: Plan) -> torch.Tensor:
    """What stands before the head after the first text that a repair reads, [T, C]."""
    decoder = built(plan)
    text = torch.tensor(calibration_tokens(preparation.tokenizer, 64))
    with torch.inference_mode():
        return decoder.forward(text, context_for(decoder, len(text)), Probe())


def context_for(decoder: Decoder, tokens: int) -> Context:
    heads = tuple(block.attention.kv_heads for block in decoder.blocks)
    return softmax_over(decoder, Off(NoOptions(), Layout(heads, decoder.traits.head_size, tokens, torch.float32)))


def test_that_w_o_is_the_ridge_regression_on_what_heads_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repair, "_WINDOWS", 1)
    saved("llama", tmp_path / "model")
    preparation = prepared(tmp_path / "model")
    trained, rough, found = opened(preparation), shared(preparation, False, layers="0"), shared(preparation, True, layers="0")
    given, want = heads_and_stream(preparation, rough)[0], heads_and_stream(preparation, trained)[1]
    start = heads_and_stream(preparation, rough)[1]
    weight = want.square().mean(dim=1, keepdim=True).rsqrt()
    x, y = (given * weight).double(), ((want - start) * weight).double()
    ridge = (0.02 * x.square().sum() / x.shape[1]).sqrt() * torch.eye(x.shape[1]).double()
    expected = torch.linalg.lstsq(torch.cat((x, ridge)), torch.cat((y, torch.zeros(len(ridge), y.shape[1])))).solution.T
    assert (found.layers[0].o.dense() - rough.layers[0].o.dense() - expected).abs().max() < 1e-4


def heads_and_stream(preparation: Preparation, plan: Plan) -> tuple[torch.Tensor, torch.Tensor]:
    """What the heads of the first layer hand to W_o, [T, H·D], and x [T, C] behind its attention."""
    decoder = built(plan)
    text = torch.tensor(calibration_tokens(preparation.tokenizer, 64))
    context, attention = context_for(decoder, 64), decoder.blocks[0].attention
    rows = context.rows(64, Probe())
    with torch.inference_mode():
        x = decoder.embedded(text, context, Probe())
        norm = decoder.blocks[0].before_attention
        assert norm is not None
        given = context.attend(0, *attention.projected(norm(x), rows.positions), rows).flatten(1)
        return given, x + attention.out(given)


def test_that_a_repair_is_kept_and_belongs_to_what_was_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved("llama", tmp_path / "model")
    preparation = prepared(tmp_path / "model")
    first = logits(shared(preparation, True))
    other = logits(shared(preparation, True, "mean"))
    monkeypatch.setattr(repair, "_learned", None)
    assert torch.equal(logits(shared(preparation, True)), first)
    assert not torch.equal(other, first)


def test_that_a_norm_behind_w_o_is_refused(tmp_path: Path) -> None:
    saved("olmo2", tmp_path / "model")
    with pytest.raises(BadInput, match="norms what W_o gives"):
        shared(prepared(tmp_path / "model"), True)
