"""Sampling: the filters against transformers' own, seeds, and speculation that changes no distribution."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from core.config import Sampling
from core.engine.sampling import Sampler

LOGITS = torch.tensor([2.0, 1.5, 1.0, 0.5, 0.0, -1.0, -2.0, -3.0])


def drawn(options: Sampling, count: int) -> list[int]:
    sampler = Sampler(options, [0], LOGITS.numel())
    return [sampler.draw(LOGITS) for _ in range(count)]


@settings(deadline=None)
@given(
    st.integers(0, 2**31),
    st.floats(0.2, 3),
    st.integers(0, 40),
    st.floats(0.05, 0.99) | st.just(1.0),
    st.floats(0, 0.5),
    st.floats(0.5, 2),
)
def test_that_the_distribution_is_that_of_transformers(
    seed: int, temperature: float, top_k: int, top_p: float, min_p: float, penalty: float
) -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(seed)) * 3
    seen = [1, 4, 4, 9]
    steps = [RepetitionPenaltyLogitsProcessor(penalty), TemperatureLogitsWarper(temperature)]
    steps += [TopKLogitsWarper(top_k)] if top_k else []
    steps += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    steps += [MinPLogitsWarper(min_p)] if min_p else []
    expected = LogitsProcessorList(steps)(torch.tensor([seen]), logits[None].clone())[0].softmax(-1)
    options = Sampling(temperature, top_k, top_p, min_p, penalty)
    torch.testing.assert_close(Sampler(options, seen, 50).distribution(logits), expected, atol=1e-6, rtol=1e-4)


def test_that_temperature_zero_takes_the_likeliest_token() -> None:
    assert drawn(Sampling(temperature=0.0, seed=7), 3) == [0, 0, 0]


def test_that_the_penalty_also_applies_to_greedy_choice() -> None:
    # 0 was in the prompt: 2/3 falls behind 1.5, then 1.5/3 behind 1.0, then the penalized 0 is best again.
    assert drawn(Sampling(repetition_penalty=3.0), 3) == [1, 2, 0]


def test_that_a_seed_gives_the_same_tokens_and_another_seed_others() -> None:
    one, again, other = (drawn(Sampling(temperature=1.0, seed=seed), 40) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_that_a_nucleus_wider_than_the_presorted_part_is_kept_whole() -> None:
    flat = torch.zeros(5000)
    distribution = Sampler(Sampling(temperature=1.0, top_p=0.5), [], 5000).distribution(flat)
    assert (distribution > 0).sum() == pytest.approx(2500, abs=1)


@pytest.mark.parametrize("draft", [0, 3, 7])
def test_that_speculation_leaves_the_distribution_unchanged(draft: int) -> None:
    sampler, count = Sampler(Sampling(temperature=1.3, seed=5), [], LOGITS.numel()), 4000
    rows = torch.stack((LOGITS, LOGITS))
    seen = Counter(sampler.verify(rows, [draft])[0] for _ in range(count))
    expected = (LOGITS / 1.3).softmax(-1) * count
    chi_square = sum((seen[i] - float(e)) ** 2 / float(e) for i, e in enumerate(expected))
    assert chi_square < 24.3  # 99.9 % of 7 degrees of freedom


def test_that_accepted_drafts_are_followed_by_a_bonus_and_a_wrong_one_is_corrected() -> None:
    rows = torch.eye(8)[[3, 4, 5]]
    greedy = Sampler(Sampling(), [], 8)
    assert greedy.verify(rows, [3, 4]) == [3, 4, 5]
    assert greedy.verify(rows, [3, 6]) == [3, 4]
    assert greedy.verify(rows, [6, 4]) == [3]
    assert greedy.verify(rows[:1], []) == [3]


@settings(deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 2), st.floats(0.5, 3), st.lists(st.integers(0, 5), min_size=4, max_size=4))
def test_that_drafting_changes_no_token_of_a_seed(seed: int, temperature: float, penalty: float, drafts: list[int]) -> None:
    """The penalty sees accepted tokens position by position, and a rejected draft leaves no mark."""
    rows = torch.randn(5, 6, generator=torch.Generator().manual_seed(seed))
    options = Sampling(temperature=temperature, repetition_penalty=penalty, seed=seed)
    plain, speculative = Sampler(options, [2], 6), Sampler(options, [2], 6)
    given_up = speculative.verify(rows, drafts)
    assert given_up == [plain.draw(row) for row in rows[: len(given_up)]]
    assert given_up[:-1] == drafts[: len(given_up) - 1]
