"""Advantages: closed forms, and a float64 reference written from the formula.

P: problems   G: completions a problem
"""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from r1kit.objectives.advantages import group_mean_advantages, group_norm_advantages, has_variance

BOTH = pytest.mark.parametrize("advantages_of", [group_norm_advantages, group_mean_advantages])


def reference_advantages(rewards_PG, *, divide_by_std):
    advantages_PG = np.zeros_like(rewards_PG)
    for p, rewards_G in enumerate(rewards_PG):
        mean = sum(rewards_G) / len(rewards_G)
        std = math.sqrt(sum((r - mean) ** 2 for r in rewards_G) / len(rewards_G))
        for g, reward in enumerate(rewards_G):
            advantages_PG[p, g] = (reward - mean) / (std if divide_by_std else 1)
    return advantages_PG


def mixed_rewards():
    return np.random.default_rng(0).normal(size=(8, 16)).round(1)


@pytest.mark.parametrize("num_right", [1, 5, 8, 15])
def test_binary_rewards_give_the_closed_form_advantages(num_right):
    rewards_PG = torch.tensor([[1.0] * num_right + [0.0] * (16 - num_right)])
    p = num_right / 16

    advantages_G = group_norm_advantages(rewards_PG)[0]

    assert_close(advantages_G[:num_right], torch.full((num_right,), math.sqrt((1 - p) / p)))
    assert_close(advantages_G[num_right:], torch.full((16 - num_right,), -math.sqrt(p / (1 - p))))


@pytest.mark.parametrize(("advantages_of", "divide"), [(group_norm_advantages, True), (group_mean_advantages, False)])
def test_advantages_equal_the_reference(advantages_of, divide):
    rewards_PG = mixed_rewards()
    expected_PG = torch.from_numpy(reference_advantages(rewards_PG, divide_by_std=divide))

    assert_close(advantages_of(torch.from_numpy(rewards_PG)), expected_PG, rtol=1e-12, atol=1e-12)
    assert_close(advantages_of(torch.from_numpy(rewards_PG).float()), expected_PG.float(), rtol=1e-5, atol=1e-6)


def test_normalised_advantages_have_mean_0_and_population_std_1_in_each_group():
    advantages_PG = group_norm_advantages(torch.from_numpy(mixed_rewards()))

    assert_close(advantages_PG.mean(-1), torch.zeros(8, dtype=torch.float64), rtol=0, atol=1e-14)
    assert_close((advantages_PG**2).mean(-1), torch.ones(8, dtype=torch.float64))


def test_normalised_advantages_ignore_the_scale_and_offset_of_rewards_and_centred_ones_the_offset():
    rewards_PG = torch.from_numpy(mixed_rewards())

    assert_close(group_norm_advantages(3 * rewards_PG + 7), group_norm_advantages(rewards_PG))
    assert_close(group_mean_advantages(3 * rewards_PG + 7), 3 * group_mean_advantages(rewards_PG))


@BOTH
@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, -1 / 3, 1000.1])
def test_a_uniform_group_has_exactly_no_advantage(advantages_of, reward):
    rewards_PG = torch.full((2, 16), reward)
    rewards_PG[1, 0] += 1  # a group with variance beside it

    advantages_PG = advantages_of(rewards_PG)

    assert advantages_PG[0].tolist() == [0.0] * 16
    assert advantages_PG[1, 0] > 0 and bool((advantages_PG[1, 1:] < 0).all())


def test_sixteen_equal_rewards_of_a_tenth_are_a_trap_in_float32():
    rewards_PG = torch.full((1, 16), 0.1)

    # The naive formula divides a rounding error by a rounding error and calls it an advantage.
    naive_PG = (rewards_PG - rewards_PG.mean(-1, keepdim=True)) / rewards_PG.std(-1, keepdim=True, correction=0)

    assert naive_PG.abs().max() > 0.5
    assert not has_variance(rewards_PG).any()
    assert group_norm_advantages(rewards_PG).abs().max() == 0


def test_variance_is_seen_wherever_the_odd_reward_stands():
    rewards_PG = torch.full((17, 16), 0.1)
    rewards_PG[torch.arange(16), torch.arange(16)] = 0.2

    assert has_variance(rewards_PG).tolist() == [True] * 16 + [False]
