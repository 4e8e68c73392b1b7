"""Which device runs what, and what is refused before a run. Free of torch, as the window needs it."""

from __future__ import annotations

import pytest

from core.compatibility import refusals, refuse, refused_techniques
from core.config import RunConfig
from core.cuda import found, support
from core.errors import BadInput
from core.models.info import ModelInfo
from core.refusals import computing

SHAPE = {
    "name": "tiny", "path": "/tiny", "format": "safetensors", "architecture": "llama", "engine": "local", "layers": 4,
    "width": 128, "query_heads": 8, "kv_heads": 4, "head_size": 16, "ffn_width": 96, "vocabulary": 300, "context": 128,
    "parameters": 10_000,
}  # fmt: skip
DENSE = ModelInfo(**SHAPE)  # type: ignore[arg-type]
MIXTURE = ModelInfo(**SHAPE | {"experts": 4, "experts_used": 2})  # type: ignore[arg-type]
ON_CUDA = "engine.device=cuda"


def chosen(settings: str) -> RunConfig:
    return RunConfig().set(settings.split())


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine whose driver shows a GPU."""
    for module in (support, computing):
        monkeypatch.setattr(module, "missing", lambda: None)


def test_that_cuda_is_refused_in_a_sentence_where_there_is_none() -> None:
    if found.missing() is None:
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(BadInput, match=r"engine.device=cuda needs an NVIDIA GPU, and .*; use engine.device=cpu"):
        refuse(chosen(ON_CUDA), DENSE)
    assert support.device_of(RunConfig(), DENSE) == "cpu"


@pytest.mark.usefixtures("with_gpu")
@pytest.mark.parametrize(
    ("settings", "family"),
    [
        ("cache.name=rolling", "cache"),
        ("cache.name=off", "cache"),
        ("attention.name=topk", "attention"),
        ("attention.name=performer", "attention"),
        ("heads.name=latent_kv heads.rank=16", "heads"),
        ("ffn.name=moefy", "ffn"),
        ("weights.name=bnb_nf4", "weights"),
        ("weights.name=rtn weights.bits=3", "weights"),
        ("weights.name=rtn weights.group_size=50", "weights"),
    ],
)
def test_that_what_has_no_cuda_form_is_refused_there_and_goes_to_the_processor_by_itself(settings: str, family: str) -> None:
    assert [refusal.family for refusal in refusals(chosen(f"{ON_CUDA} {settings}"), DENSE)] == [family]
    assert support.device_of(chosen(settings), DENSE) == "cpu"
    assert not refusals(chosen(settings), DENSE)


@pytest.mark.usefixtures("with_gpu")
def test_that_a_mixture_of_experts_is_refused_there() -> None:
    assert "mixture of experts" in refusals(chosen(ON_CUDA), MIXTURE)[0].reason
    assert support.device_of(RunConfig(), MIXTURE) == "cpu"


@pytest.mark.usefixtures("with_gpu")
@pytest.mark.parametrize(
    "settings",
    [
        "attention.name=sink_window cache.name=static heads.name=kv_sharing heads.kv_heads=2 decoding.name=prompt_lookup",
        "weights.name=rtn weights.bits=4 weights.group_size=128",
        "weights.name=rtn weights.bits=8 weights.group_size=0",
        "weights.name=cast weights.dtype=float16",
        "attention.name=bigbird cache.name=offloaded",
        "attention.name=strided attention.layers=0-1",
    ],
)
def test_that_what_has_a_cuda_form_goes_there(settings: str) -> None:
    assert support.device_of(chosen(settings), DENSE) == "cuda"
    assert support.device_of(chosen(f"engine.device=cpu {settings}"), DENSE) == "cpu"
    assert not refusals(chosen(f"{ON_CUDA} {settings}"), DENSE)


@pytest.mark.usefixtures("with_gpu")
def test_that_choosing_cuda_greys_out_what_it_rules_out() -> None:
    refused = refused_techniques(chosen(ON_CUDA), DENSE)
    assert {("cache", "rolling"), ("ffn", "moefy"), ("weights", "bnb_int8")} <= set(refused)
    assert ("weights", "rtn") not in refused
    assert "CUDA form" in refused["cache", "rolling"]
    assert "chooses keys by content" in refused["attention", "block_topk"]
    assert ("attention", "local_global") not in refused


@pytest.mark.usefixtures("with_gpu")
def test_that_blocks_are_not_computed_of_heads_that_tensor_cores_do_not_take() -> None:
    small = ModelInfo(**SHAPE | {"head_size": 8})  # type: ignore[arg-type]
    assert "heads of 16 numbers or more, not 8" in refusals(chosen(f"{ON_CUDA} attention.name=dilated"), small)[0].reason
    assert not refusals(chosen(f"{ON_CUDA} attention.name=window"), small)
