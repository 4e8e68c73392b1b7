"""Linear attention against a plain implementation: one query at a time, every key with its own weight."""

from __future__ import annotations

from collections.abc import Callable
from math import exp

import pytest
import torch
from attending import CHUNKS, HEADS, KV_HEADS, SCALE, SIZE, TOKENS, attended, context_of, draws, rewound, site
from hypothesis import given, settings
from hypothesis import strategies as st

from core.attention.performer import orthogonal_directions
from core.attention.softmax import Softmax
from core.decoder.probe import Probe
from core.errors import RunFailed

pytestmark = pytest.mark.usefixtures("one_thread")
Kernel = Callable[[torch.Tensor, torch.Tensor], float]
LONG = 300
ELU = "attention.name=linear_elu attention.window=5 attention.sinks=2"


def elu_kernel(q: torch.Tensor, k: torch.Tensor) -> float:
    return float((torch.nn.functional.elu(q) + 1) @ (torch.nn.functional.elu(k) + 1))


def performer_kernel(q: torch.Tensor, k: torch.Tensor) -> float:
    directions = orthogonal_directions(12, SIZE, torch.Generator().manual_seed(5))
    features = [torch.exp(directions @ x * SCALE**0.5 - x @ x * SCALE / 2) for x in (q, k)]
    return float(features[0] @ features[1]) / 12


KERNELS: dict[str, Kernel] = {
    "attention.name=linear_elu": elu_kernel,
    "attention.name=performer attention.features=12 attention.seed=5": performer_kernel,
}
LOCALS = [(0, 0), (1, 0), (5, 0), (0, 2), (6, 3), (100, 0)]


def weights(kernel: Kernel, window: int, sinks: int, tokens: int = TOKENS, cap: float = 0.0) -> torch.Tensor:
    """[H, T, S] in words: exp of the score for sinks and the window, the kernel for every key between."""
    q, k, _ = draws(tokens)
    found = torch.zeros(HEADS, tokens, tokens)
    for head in range(HEADS):
        keys = k[:, head // (HEADS // KV_HEADS)]
        for query in range(tokens):
            for key in range(query + 1):
                score = float(q[query, head] @ keys[key]) * SCALE
                score = cap * float(torch.tanh(torch.tensor(score / cap))) if cap else score
                exact = query - key < window or key < sinks
                found[head, query, key] = exp(score) if exact else kernel(q[query, head], keys[key])
    return found / found.sum(-1, keepdim=True)


def mixed(found: torch.Tensor) -> torch.Tensor:
    """y [T, H, D] of weights [H, T, S]."""
    v = draws(found.shape[1])[2].repeat_interleave(HEADS // KV_HEADS, dim=1)
    return torch.einsum("hts,shd->thd", found, v)


@pytest.mark.parametrize(("window", "sinks"), LOCALS)
@pytest.mark.parametrize("technique", KERNELS)
def test_that_linear_attention_weighs_keys_as_it_says(technique: str, window: int, sinks: int) -> None:
    expected = mixed(weights(KERNELS[technique], window, sinks))
    for chunks in CHUNKS.values():
        context = context_of(f"{technique} attention.window={window} attention.sinks={sinks}", site())
        assert (attended(context, chunks) - expected).abs().max() < 1e-4


def test_that_a_long_pass_goes_through_the_state_like_single_tokens() -> None:
    where = site(tokens=LONG)
    for technique, kernel in KERNELS.items():
        expected = mixed(weights(kernel, 7, 2, LONG)) if kernel is elu_kernel else None
        for chunks in ([LONG], [130, *[1] * 170], [64, 65, 171]):
            found = attended(context_of(f"{technique} attention.window=7 attention.sinks=2", where), chunks)
            expected = found if expected is None else expected
            assert (found - expected).abs().max() < 1e-4


def test_that_scores_are_capped_where_the_model_caps_them() -> None:
    found = attended(context_of("attention.name=linear_elu attention.window=5", site(cap=0.7)), CHUNKS["chunked"])
    assert (found - mixed(weights(elu_kernel, 5, 4, cap=0.7))).abs().max() < 1e-4


def test_that_features_far_apart_neither_overflow_nor_vanish() -> None:
    settings_ = "attention.name=performer attention.features=16 attention.window=0 attention.sinks=0"
    context = context_of(settings_, site())
    q, k, v = draws()
    k = k * torch.linspace(40, 0, len(k))[:, None, None]
    y = context.attend(0, 30 * q, k, v, context.rows(len(q), Probe()))
    assert y.isfinite().all()


@settings(deadline=None, max_examples=20)
@given(steps=st.lists(st.tuples(st.integers(1, 90), st.integers(0, 64)), min_size=1, max_size=8))
def test_that_rows_of_the_last_pass_can_be_taken_back(steps: list[tuple[int, int]]) -> None:
    found, expected = rewound(ELU, steps)
    assert (found - expected).abs().max() < 1e-4


def test_that_going_further_back_is_refused() -> None:
    context = context_of(ELU, site(tokens=LONG))
    attended(context, [100, 1])
    with pytest.raises(RunFailed, match="cannot go back from 101 tokens to 99"):
        context.trim(99)
    context.trim(0)
    assert torch.equal(attended(context, [101]), attended(context_of(ELU, site(tokens=LONG)), [101]))


@pytest.mark.parametrize("technique", KERNELS)
def test_that_bytes_do_not_depend_on_the_length(technique: str) -> None:
    context, sizes = context_of(f"{technique} attention.window=16", site(tokens=LONG)), set()
    for part in zip(*(part.split([1, 1, 20, 198, *[1] * 80]) for part in draws(LONG)), strict=True):
        context.attend(0, *part, context.rows(len(part[0]), Probe()))
        context.advance(len(part[0]))
        sizes.add(sum(mechanism.nbytes for mechanism in context.mechanisms))
    features = 12 if "features" in technique else SIZE
    recent, state = 2 * KV_HEADS * (4 + 16 + 128) * SIZE, KV_HEADS * features * (SIZE + 2)
    assert sizes == {4 * (recent + state)}


def test_that_a_capture_shows_the_weight_of_every_key() -> None:
    for chunks in CHUNKS.values():
        probe = Probe([0])
        context, seen = context_of(ELU, site()), []
        for q, k, v in zip(*(part.split(chunks) for part in draws()), strict=True):
            context.attend(0, q, k, v, context.rows(len(q), probe))
            context.advance(len(q))
            seen.append(probe.take_attention()[0])
        expected = weights(elu_kernel, 5, 2).numpy()
        first = 0
        for found, positions in seen:
            assert positions.tolist() == list(range(first + found.shape[1]))
            assert abs(found - expected[:, first : len(positions), : len(positions)]).max() < 1e-3
            first = len(positions)


def test_that_a_trained_sliding_window_stays() -> None:
    found = context_of("attention.name=linear_elu", site(window=9)).mechanisms[0]
    assert isinstance(found, Softmax)
