"""What length is worth: DAPO's soft punishment against its formula, and what being cut costs."""

import pytest

from r1kit.config.rollouts import RewardSettings
from r1kit.rewards import score_completion
from r1kit.rewards.length import overlong_penalty
from r1kit.types import Completion, FinishReason, Problem

PROBLEM = Problem(id="chains/2+2", prompt="Compute 2+2", gold="4", verifier="chains")
RIGHT = "<think>easy</think><answer>4</answer>"


def formula(length, limit, cache):
    """arXiv:2503.14476, equation 13, as it is printed."""
    if length <= limit - cache:
        return 0.0
    return ((limit - cache) - length) / cache if length <= limit else -1.0


def score(num_tokens, *, finish_reason=FinishReason.STOP, limit=None, **rewards):
    completion = Completion(
        token_ids=(1,) * num_tokens, logprobs=(0.0,) * num_tokens, text=RIGHT, finish_reason=finish_reason,
        policy_version=0,
    )  # fmt: skip
    settings = RewardSettings(**rewards)
    return score_completion(
        PROBLEM, completion, rewards=settings, prompt_ends_with_think=False, seed="0", max_new_tokens=limit
    )


@pytest.mark.parametrize(("limit", "cache"), [(20480, 4096), (100, 20), (100, 99), (10, 1), (1, 1)])
def test_the_penalty_is_the_formula_at_every_length(limit, cache):
    lengths = sorted({*range(0, limit + 3, max(1, limit // 97)), limit - cache, limit - cache + 1, limit, limit + 1})
    for length in lengths:
        found = overlong_penalty(length, max_new_tokens=limit, cache_tokens=cache)
        assert found == pytest.approx(formula(length, limit, cache), abs=1e-15)


@pytest.mark.parametrize(("limit", "cache"), [(20480, 4096), (128, 25), (4, 1)])
def test_without_a_cache_of_its_own_it_is_a_fifth_of_the_limit(limit, cache):
    for length in range(0, limit + 1, max(1, limit // 61)):
        assert overlong_penalty(length, max_new_tokens=limit, cache_tokens=0) == pytest.approx(
            formula(length, limit, cache)
        )


def test_a_score_takes_the_weighted_penalty_off_and_measures_it_at_weight_0():
    found = score(9, limit=10, overlong=0.5, overlong_cache_tokens=4)
    assert found.parts["overlong"] == -0.75
    assert found.total == 1.0 - 0.5 * 0.75
    watched = score(9, limit=10, overlong_cache_tokens=4)
    assert (watched.parts["overlong"], watched.total) == (-0.75, 1.0)
    assert score(9).parts["overlong"] == 0.0


@pytest.mark.parametrize(
    ("reason", "total"), [(FinishReason.STOP, 1.0), (FinishReason.LENGTH, 0.0), (FinishReason.ABORT, 0.0)]
)
def test_what_was_cut_can_be_made_to_earn_nothing_though_its_parts_are_measured(reason, total):
    found = score(9, limit=9, finish_reason=reason, zero_truncated=True, format=0.0)
    assert found.total == total
    assert found.parts["accuracy"] == 1.0
    assert score(9, limit=9, finish_reason=reason).total == 1.0
