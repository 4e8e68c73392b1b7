"""The compiled step against plain torch, on random decoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from core.attention.context import Context
from core.attention.mask import FULL, Reach
from core.attention.mechanism import Mechanism
from core.cache.base import Cache, Layout
from core.cache.dynamic import Dynamic
from core.cache.rolling import Rolling
from core.cache.table import RollingOptions
from core.config import RunConfig
from core.decoder.build import build
from core.decoder.fused.runner import Fused
from core.decoder.model import Decoder
from core.decoder.plan import Computed, GatedPlan, LayerPlan, Plan
from core.decoder.probe import Probe
from core.decoder.sites import expansions_of, layout_of, softmax_over
from core.decoder.traits import Traits, traits_of
from core.engine.local import LocalSession
from core.technique import NoOptions

CONFIG = {
    "model_type": "llama", "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2, "hidden_size": 96,
    "intermediate_size": 160, "vocab_size": 128, "head_dim": 16, "rms_norm_eps": 1e-5, "max_position_embeddings": 512,
}  # fmt: skip
TOKENS = 500  # of the longest run
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-wide": {"head_dim": 32},
    "mistral": {"model_type": "mistral", "sliding_window": 12},
    "qwen2": {"model_type": "qwen2", "biases": True},
    "qwen3": {"model_type": "qwen3"},
    "gemma2": {"model_type": "gemma2", "sliding_window": 8, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0},
    "granite": {"model_type": "granite", "residual_multiplier": 0.5, "attention_multiplier": 0.3, "logits_scaling": 2.0},
    "smollm3": {"model_type": "smollm3", "no_rope_layers": [1, 0, 1]},
}


def plan_for(family: str) -> Plan:
    """A random model with the traits of `family`."""
    config = CONFIG | FAMILIES[family]
    biased = bool(config.pop("biases", False))
    traits, random = traits_of(config), torch.Generator().manual_seed(1)

    def matrix(rows: int, columns: int) -> Computed:
        return Computed(torch.randn(rows, columns, generator=random) * columns**-0.5)

    def layer() -> LayerPlan:
        C, F, D = traits.width, traits.ffn_width, traits.head_size
        q, kv = traits.query_heads * D, traits.kv_heads * D
        biases = {letter: torch.randn(size, generator=random) for letter, size in zip("qkv", (q, kv, kv))} if biased else {}
        ffn = GatedPlan(matrix(F, C), matrix(F, C), matrix(C, F))
        return LayerPlan(
            matrix(q, C), matrix(kv, C), matrix(kv, C), matrix(C, q), traits.kv_heads, ffn, _norms(traits, random), biases
        )

    layers = [layer() for _ in range(traits.layers)]
    return Plan(traits, config, layers, matrix(128, 96), matrix(128, 96), torch.rand(96, generator=random) + 0.5)


def _norms(traits: Traits, random: torch.Generator) -> dict[str, torch.Tensor]:
    places = {
        "pre": ("before_attention", "before_ffn"),
        "post": ("after_attention", "after_ffn"),
        "sandwich": ("before_attention", "after_attention", "before_ffn", "after_ffn"),
    }[traits.norm_place]
    norms = {place: torch.rand(traits.width, generator=random) + 0.5 for place in places}
    if traits.qk_norm == "head":
        norms |= {name: torch.rand(traits.head_size, generator=random) + 0.5 for name in ("q_norm", "k_norm")}
    return norms


def decoder_for(family: str = "llama", *settings: str) -> Decoder:
    config, plan = RunConfig().set(settings or ("weights.name=cast",)), plan_for(family)
    weights = config.weights.technique.load()(config.weights.options, plan)
    return build(plan, weights, lambda *_: None)


def session_for(
    decoder: Decoder, fused: bool, cache: Cache | None = None, reach: Reach = FULL, probe: Probe | None = None
) -> LocalSession:
    layout = Layout(
        (decoder.blocks[0].attention.kv_heads,) * decoder.traits.layers, decoder.traits.head_size, 200, torch.float32
    )
    compiled = Fused.of(decoder) if fused else None
    assert (compiled is not None) == fused
    context = softmax_over(decoder, cache or Dynamic(NoOptions(), layout), reach)
    return LocalSession(decoder, context, probe or Probe(), compiled)


def session_over(
    decoder: Decoder,
    mechanisms: Sequence[Mechanism],
    compiled: bool,
    cache: type[Cache] = Dynamic,
    options: object = None,
    probe: Probe | None = None,
    dtype: torch.dtype = torch.float32,
) -> LocalSession:
    """One attention mechanism for each layer, of the sites for TOKENS tokens; without `compiled`, plain torch."""
    layout = layout_of(decoder, mechanisms, TOKENS, dtype)
    context = Context(cache(options or NoOptions(), layout), mechanisms, expansions_of(decoder))
    return LocalSession(decoder, context, probe or Probe(), Fused.of(decoder) if compiled else None)


def passes(session: LocalSession, sizes: Sequence[int]) -> torch.Tensor:
    """All logits of passes of these sizes."""
    return torch.cat([session.forward([(7 * i + size) % 128 for i in range(size)], all_logits=True) for size in sizes])


@pytest.mark.parametrize("family", FAMILIES)
def test_that_the_compiled_step_equals_plain_torch(family: str) -> None:
    decoder = decoder_for(family)
    sizes = (5, 1, 1, 8, 3, 20, 1)
    difference = passes(session_for(decoder, True), sizes) - passes(session_for(decoder, False), sizes)
    assert difference.abs().max() < 1e-4


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
def test_that_it_multiplies_packed_weights_of_every_width(bits: int) -> None:
    decoder = decoder_for("llama", "weights.name=rtn", f"weights.bits={bits}", "weights.group_size=32")
    difference = passes(session_for(decoder, True), (5, 1, 2)) - passes(session_for(decoder, False), (5, 1, 2))
    assert difference.abs().max() < 5e-4  # sums in another order can move an activation by a step of its 16 bits


@pytest.mark.parametrize("reach", [Reach(0, 6), Reach(3, 6), Reach(4, 1)])
def test_that_it_sees_what_the_mask_lets_through(reach: Reach) -> None:
    decoder, sizes = decoder_for(), (5, 1, 8, 1, 1)
    compiled, plain = (passes(session_for(decoder, fused, reach=reach), sizes) for fused in (True, False))
    assert (compiled - plain).abs().max() < 1e-4


@pytest.mark.parametrize("reach", [FULL, Reach(0, 6), Reach(3, 6), Reach(140, 9)])
@pytest.mark.parametrize("settings", [("weights.name=cast",), ("weights.name=rtn", "weights.bits=4", "weights.group_size=32")])
def test_that_a_row_comes_out_the_same_bit_for_bit_whatever_its_company(settings: tuple[str, ...], reach: Reach) -> None:
    decoder = decoder_for("llama", *settings)
    tokens = [(5 * i) % 128 for i in range(155)]
    alone, together = session_for(decoder, True, reach=reach), session_for(decoder, True, reach=reach)
    one_by_one = torch.cat([alone.forward([token], all_logits=True) for token in tokens])
    parts = [together.forward(tokens[first:last], all_logits=True) for first, last in ((0, 64), (64, 127), (127, 155))]
    assert torch.equal(one_by_one, torch.cat(parts))


@pytest.mark.parametrize("reach", [FULL, Reach(0, 140), Reach(3, 100), Reach(135, 20)])
def test_that_it_attends_over_many_chunks_of_slots(reach: Reach) -> None:
    decoder, sizes = decoder_for(), (60, 60, 50, 1, 1, 20, 5)
    compiled, plain = (passes(session_for(decoder, fused, reach=reach), sizes) for fused in (True, False))
    assert (compiled - plain).abs().max() < 1e-4


def test_that_a_ring_of_recent_tokens_equals_its_mask() -> None:
    decoder = decoder_for()
    layout = Layout((2,) * 3, 16, 200, torch.float32)
    ring = passes(session_for(decoder, True, Rolling(RollingOptions(window=7), layout)), (1,) * 20)
    masked = passes(session_for(decoder, False, reach=Reach(0, 7)), (1,) * 20)
    assert (ring - masked).abs().max() < 1e-4


@pytest.mark.parametrize("reach", [FULL, Reach(2, 6)])
def test_that_captured_attention_equals_plain_torch(reach: Reach) -> None:
    decoder, seen = decoder_for(), []
    for fused in (True, False):
        probe = Probe(attention_layers=(0, 2))
        session = session_for(decoder, fused, reach=reach, probe=probe)
        passes(session, (60, 60, 20))
        session.forward([3, 4])
        seen.append(probe.take_attention())
    for layer in (0, 2):
        (compiled, at, mass), (plain, expected_at, expected_mass) = seen[0][layer], seen[1][layer]
        assert at.tolist() == expected_at.tolist()
        assert abs(compiled.astype(float) - plain.astype(float)).max() < 1e-3
        if reach == FULL:
            assert mass is expected_mass is None
        else:
            assert mass.shape == (6, 2)
            assert abs(mass - expected_mass).max() < 1e-4
            assert 0 < mass.max() < 1


def test_that_a_ring_names_the_position_of_every_slot() -> None:
    decoder, probe = decoder_for(), Probe(attention_layers=(1,))
    ring = Rolling(RollingOptions(window=5), Layout((2,) * 3, 16, 200, torch.float32))
    passes(session_for(decoder, True, ring, probe=probe), (1,) * 12)
    _, positions, mass = probe.take_attention()[1]
    assert sorted(positions.tolist()) == [7, 8, 9, 10, 11]
    assert positions[11 % 5] == 11
    assert mass is None


def test_that_decoders_without_a_compiled_form_are_left_to_torch() -> None:
    decoder = decoder_for()
    decoder.traits = replace(decoder.traits, clip_qkv=2.0)
    assert Fused.of(decoder) is None
