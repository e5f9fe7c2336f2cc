"""Advantages: closed forms, and a float64 reference written from the formulas, with and without unknown rewards.

P: problems   G: completions a problem
"""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from r1kit.objectives.advantages import (
    group_mean_advantages,
    group_norm_advantages,
    has_variance,
    reinforce_plus_plus_advantages,
    reinforce_plus_plus_baseline_advantages,
    rloo_advantages,
)

BY_GROUP = [group_norm_advantages, group_mean_advantages, rloo_advantages, reinforce_plus_plus_baseline_advantages]
ALL = [*BY_GROUP, reinforce_plus_plus_advantages]
each_by_group = pytest.mark.parametrize("advantages_of", BY_GROUP)
each = pytest.mark.parametrize("advantages_of", ALL)


def mean_of(values):
    return sum(values) / len(values)


def std_of(values):
    return math.sqrt(mean_of([(value - mean_of(values)) ** 2 for value in values]))


def group_norm(r, group, every):
    return (r - mean_of(group)) / std_of(group)


def group_mean(r, group, every):
    return r - mean_of(group)


def rloo(r, group, every):
    others = list(group)
    others.remove(r)
    return r - mean_of(others)


def plus_plus(r, group, every):
    rewards = [x for g in every for x in g]
    return (r - mean_of(rewards)) / std_of(rewards)


def plus_plus_baseline(r, group, every):
    return (r - mean_of(group)) / std_of([x - mean_of(g) for g in every for x in g])


FORMULAS = dict(zip(ALL, [group_norm, group_mean, rloo, plus_plus_baseline, plus_plus], strict=True))


def reference_advantages(formula, rewards_PG, known_PG):
    """One completion at a time; whoever has no equal to be compared with gets 0."""
    every = [[r for r, k in zip(row, known, strict=True) if k] for row, known in zip(rewards_PG, known_PG, strict=True)]
    advantages_PG = np.zeros(rewards_PG.shape)
    for p, g in np.ndindex(rewards_PG.shape):
        compared = [x for group in every for x in group] if formula is plus_plus else every[p]
        if known_PG[p, g] and len(set(compared)) > 1:
            advantages_PG[p, g] = formula(rewards_PG[p, g], every[p], [group for group in every if group])
    return advantages_PG


def mixed_rewards():
    return np.random.default_rng(0).normal(size=(8, 16)).round(1)


def some_unknown():
    """In most groups some rewards are unknown, in one all but one, in one all."""
    known_PG = np.random.default_rng(1).random((8, 16)) < 0.7
    known_PG[0] = True
    known_PG[5] = np.arange(16) == 3
    known_PG[6] = False
    return known_PG


@pytest.mark.parametrize("num_right", [1, 5, 8, 15])
def test_binary_rewards_give_the_closed_form_advantages(num_right):
    rewards_PG = torch.tensor([[1.0] * num_right + [0.0] * (16 - num_right)])
    p = num_right / 16

    advantages_G = group_norm_advantages(rewards_PG)[0]

    assert_close(advantages_G[:num_right], torch.full((num_right,), math.sqrt((1 - p) / p)))
    assert_close(advantages_G[num_right:], torch.full((16 - num_right,), -math.sqrt(p / (1 - p))))


@each
def test_advantages_equal_the_reference(advantages_of):
    rewards_PG = mixed_rewards()
    rewards_PG[2] = 0.1  # a group of equal rewards beside the others
    expected_PG = torch.from_numpy(reference_advantages(FORMULAS[advantages_of], rewards_PG, np.ones((8, 16), bool)))

    assert_close(advantages_of(torch.from_numpy(rewards_PG)), expected_PG, rtol=1e-12, atol=1e-12)
    assert_close(advantages_of(torch.from_numpy(rewards_PG).float()), expected_PG.float(), rtol=1e-5, atol=1e-6)


@each
def test_unknown_rewards_count_in_nothing_whatever_stands_there(advantages_of):
    rewards_PG, known_PG = mixed_rewards(), some_unknown()
    expected_PG = torch.from_numpy(reference_advantages(FORMULAS[advantages_of], rewards_PG, known_PG))
    for nonsense in (0.0, 1e9, math.nan):
        filled_PG = torch.from_numpy(np.where(known_PG, rewards_PG, nonsense))

        advantages_PG = advantages_of(filled_PG, torch.from_numpy(known_PG))

        assert_close(advantages_PG, expected_PG, rtol=1e-12, atol=1e-12)
        assert bool((advantages_PG[torch.from_numpy(~known_PG)] == 0).all())
        assert advantages_PG[6].tolist() == [0.0] * 16


@each
def test_where_all_is_known_saying_so_changes_nothing(advantages_of):
    rewards_PG = torch.from_numpy(mixed_rewards())
    found_PG = advantages_of(rewards_PG, torch.ones(8, 16, dtype=torch.bool))
    assert_close(found_PG, advantages_of(rewards_PG), rtol=1e-12, atol=1e-14)


def test_normalised_advantages_have_mean_0_and_population_std_1_in_each_group():
    advantages_PG = group_norm_advantages(torch.from_numpy(mixed_rewards()))

    assert_close(advantages_PG.mean(-1), torch.zeros(8, dtype=torch.float64), rtol=0, atol=1e-14)
    assert_close((advantages_PG**2).mean(-1), torch.ones(8, dtype=torch.float64))


@pytest.mark.parametrize("advantages_of", [reinforce_plus_plus_advantages, reinforce_plus_plus_baseline_advantages])
def test_globally_normalised_advantages_have_mean_0_and_population_std_1_over_the_iteration(advantages_of):
    advantages_PG = advantages_of(torch.from_numpy(mixed_rewards()))

    assert float(advantages_PG.mean()) == pytest.approx(0, abs=1e-14)
    assert float((advantages_PG**2).mean()) == pytest.approx(1, rel=1e-12)


def test_rloo_is_the_centred_reward_stretched_by_g_over_g_minus_1():
    rewards_PG = torch.from_numpy(mixed_rewards())
    assert_close(rloo_advantages(rewards_PG), group_mean_advantages(rewards_PG) * 16 / 15)
    assert_close(rloo_advantages(torch.tensor([[1.0, 0.0]])), torch.tensor([[1.0, -1.0]]))


@pytest.mark.parametrize(
    "advantages_of",
    [group_norm_advantages, reinforce_plus_plus_advantages, reinforce_plus_plus_baseline_advantages],
)
def test_normalised_advantages_ignore_the_scale_and_offset_of_rewards(advantages_of):
    rewards_PG = torch.from_numpy(mixed_rewards())
    assert_close(advantages_of(3 * rewards_PG + 7), advantages_of(rewards_PG))


@pytest.mark.parametrize("advantages_of", [group_mean_advantages, rloo_advantages])
def test_centred_advantages_ignore_the_offset_alone(advantages_of):
    rewards_PG = torch.from_numpy(mixed_rewards())
    assert_close(advantages_of(3 * rewards_PG + 7), 3 * advantages_of(rewards_PG))


@each_by_group
@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, -1 / 3, 1000.1])
@pytest.mark.parametrize("all_known", [True, False])
def test_a_uniform_group_has_exactly_no_advantage(advantages_of, reward, all_known):
    rewards_PG = torch.full((2, 16), reward)
    rewards_PG[1, 0] += 1  # a group with variance beside it
    known_PG = torch.ones(2, 16, dtype=torch.bool)
    known_PG[:, 7] = all_known

    advantages_PG = advantages_of(rewards_PG, None if all_known else known_PG)

    assert advantages_PG[0].tolist() == [0.0] * 16
    assert advantages_PG[1, 0] > 0 and bool((advantages_PG[1][known_PG[1]][1:] < 0).all())


@each
@pytest.mark.parametrize("reward", [0.0, 0.1, -1 / 3])
def test_an_iteration_of_equal_rewards_has_exactly_no_advantage(advantages_of, reward):
    assert advantages_of(torch.full((8, 16), reward)).abs().max() == 0


def test_a_uniform_group_is_judged_against_the_iteration_by_reinforce_plus_plus_alone():
    rewards_PG = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    assert_close(reinforce_plus_plus_advantages(rewards_PG), torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]]))
    expected_PG = torch.tensor([[0.0, 0.0], [-1.0, 1.0], [0.0, 0.0]]) * math.sqrt(3)
    assert_close(reinforce_plus_plus_baseline_advantages(rewards_PG), expected_PG)


def test_sixteen_equal_rewards_of_a_tenth_are_a_trap_in_float32():
    rewards_PG = torch.full((1, 16), 0.1)

    # The naive formula divides a rounding error by a rounding error and calls it an advantage.
    naive_PG = (rewards_PG - rewards_PG.mean(-1, keepdim=True)) / rewards_PG.std(-1, keepdim=True, correction=0)

    assert naive_PG.abs().max() > 0.5
    assert not has_variance(rewards_PG).any()
    assert all(advantages_of(rewards_PG).abs().max() == 0 for advantages_of in ALL)


def test_variance_is_seen_wherever_the_odd_reward_stands():
    rewards_PG = torch.full((17, 16), 0.1)
    rewards_PG[torch.arange(16), torch.arange(16)] = 0.2

    assert has_variance(rewards_PG).tolist() == [True] * 16 + [False]


def test_variance_among_unknown_rewards_is_none():
    rewards_PG = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    known_PG = torch.tensor([[False, True, True], [True, False, False], [False, False, False]])
    assert has_variance(rewards_PG, known_PG).tolist() == [False, False, False]
