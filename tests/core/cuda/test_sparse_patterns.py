"""Sparse patterns on a device, in prompts and in steps, against the processor's own way to attend."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.attention.flex_attention import create_block_mask

from core.attention.patterns import plan_of
from core.cuda import flex, plain
from core.cuda.flex import Flexible, block_mask, blocks_of
from core.cuda.kernels import Kernels
from core.cuda.plain import Plain
from tests.core.attention.attending import KV_HEADS, attended, context_of, site
from tests.core.cuda.device_models import TOKENS as FED
from tests.core.cuda.device_models import attention, pair_of, passes
from tests.core.cuda.sparse import CHUNKS, PATTERNS, TOKENS, attended_on
from tests.core.decoder.parity_models import CASES, save

pytestmark = pytest.mark.usefixtures("one_thread", "uncompiled")
BOTH = pytest.mark.parametrize("kernels", [Plain(), Flexible()], ids=["masks", "flex"])
EACH = pytest.mark.parametrize("settings", PATTERNS)


@EACH
@BOTH
@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_that_a_pattern_is_that_of_the_processor(kernels: Kernels, settings: str, chunks: list[int]) -> None:
    expected = attended(context_of(f"attention.name={settings}", site(tokens=TOKENS)), [TOKENS])
    assert (attended_on(kernels, settings, chunks) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("cap", [0.0, 0.7])
@pytest.mark.parametrize("block", [256, 50])
@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("sinks", [0, 3, 200])
def test_that_a_window_is_that_of_the_processor(
    sinks: int, chunks: list[int], block: int, cap: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain, "_BLOCK", block)
    settings = f"sink_window attention.sinks={sinks} attention.window=30"
    expected = attended(context_of(f"attention.name={settings}", site(cap, 90, tokens=TOKENS)), [TOKENS])
    assert (attended_on(Plain(), settings, chunks, cap, 90) - expected).abs().max() < 1e-4


@EACH
@BOTH
def test_that_it_holds_within_a_sliding_layer_of_capped_scores(kernels: Kernels, settings: str) -> None:
    expected = attended(context_of(f"attention.name={settings}", site(0.7, 60, TOKENS)), [TOKENS])
    assert (attended_on(kernels, settings, CHUNKS["chunked"], 0.7, 60) - expected).abs().max() < 1e-4


@EACH
@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3-layer-types"])
def test_that_a_decoder_under_a_pattern_is_the_plain_decoder_under_it(
    family: str, settings: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp(family)
    save(next(case for case in CASES if case.name == family), folder)
    pair = pair_of(folder, kernels=Flexible())
    some = f"{settings} attention.layers=0,2-3"
    assert len(set(pair.session(some).patterns)) > 1
    assert (passes(pair.session(some), [70, 40, 1, 5, 1, 33]) - pair.expected(some, FED)).abs().max() < 1e-4


@EACH
@pytest.mark.parametrize(("first", "rows", "slots"), [(0, 512, 512), (300, 200, 512), (257, 9, 1024)])
def test_that_blocks_are_those_that_torch_finds_by_asking_for_every_pair(
    settings: str, first: int, rows: int, slots: int
) -> None:
    pattern, shared = plan_of(attention(settings), KV_HEADS).surely, 3
    found = block_mask(pattern, torch.arange(first, first + rows), slots, shared)

    def asked(_batch: Any, head: Any, query: Any, key: Any) -> Any:
        return (query < rows) & pattern.sees(first + query, key, head // shared)

    expected = create_block_mask(asked, None, KV_HEADS * shared, found.shape[-2], slots, "cpu")
    assert torch.equal(found.to_dense().expand_as(expected.to_dense()), expected.to_dense())


@EACH
def test_that_what_is_hidden_is_skipped(settings: str) -> None:
    """Where all of a block is seen, no pair is asked for."""
    longer = settings.replace("stride=40", "stride=512").replace("every=50", "every=0").replace("block=16", "block=128")
    some, every = blocks_of(plan_of(attention(longer), KV_HEADS).surely, torch.arange(4096), 4096)
    causal = 32 * 33 / 2
    assert some.sum((1, 2)).max() < 0.45 * causal
    assert not (every & ~some).any()
    assert bool(every.any()) == ("bigbird" in longer)


@EACH
def test_that_torch_compiles_a_pattern_once_for_each_bucket(settings: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced as for a GPU, and then run as it is: where a prompt continues changes nothing that is compiled."""
    torch._dynamo.reset()
    counting = CompileCounterWithBackend("eager")
    compiled = torch.compile(flex.flex_attention, backend=counting, dynamic=False, fullgraph=True)
    monkeypatch.setattr(flex, "_compiling", lambda: compiled)
    monkeypatch.setattr(flex, "_flex", lambda _device: flex._compiled)
    expected = attended(context_of(f"attention.name={settings}", site(0.7, tokens=TOKENS)), [TOKENS])
    for _ in range(2):
        assert (attended_on(Flexible(), settings, [100, 90, 60, 20, 30], 0.7) - expected).abs().max() < 1e-4
    assert counting.frame_count == 1
    attended_on(Flexible(), settings, [200, 100])
    assert counting.frame_count == 3


@EACH
@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_that_a_gpu_computes_what_the_processor_does(
    gpu: torch.device, fused: Any, settings: str, chunks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.core.attention.attending.SIZE", 16)  # flex takes no smaller heads there
    expected = attended_on(Plain(), settings, chunks, 0.7)
    assert (attended_on(fused, settings, chunks, 0.7, device=str(gpu)) - expected).abs().max() < 1e-3
