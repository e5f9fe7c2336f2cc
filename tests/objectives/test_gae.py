"""Generalised advantage estimation against its sum in float64, and in closed form where there is one.

B: completions   T: token positions
"""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from r1kit.objectives.gae import gae, token_rewards, whitened

SETTINGS = [(1.0, 1.0), (1.0, 0.95), (0.99, 0.9), (0.9, 0.0), (1.0, 0.0)]


@pytest.fixture
def case(odd_mask_BT):
    """Rewards and values of random size everywhere, outside the mask too."""
    rng = np.random.default_rng(0)
    return rng.standard_normal(odd_mask_BT.shape), rng.standard_normal(odd_mask_BT.shape), odd_mask_BT


def reference(rewards_BT, values_BT, mask_BT, gamma, lam):
    """The printed sum over l, completion by completion, over its sampled tokens alone."""
    advantages_BT = np.zeros(rewards_BT.shape)
    for row, mask_T in enumerate(mask_BT):
        places = np.flatnonzero(mask_T)
        rewards, values = rewards_BT[row, places], np.append(values_BT[row, places], 0.0)
        deltas = rewards + gamma * values[1:] - values[:-1]
        for start, place in enumerate(places):
            advantages_BT[row, place] = sum((gamma * lam) ** n * delta for n, delta in enumerate(deltas[start:]))
    return advantages_BT


@pytest.mark.parametrize(("gamma", "lam"), SETTINGS)
def test_advantages_are_the_printed_sum(case, gamma, lam):
    rewards_BT, values_BT, mask_BT = case
    found_BT, returns_BT = gae(*(torch.tensor(array) for array in case), gamma=gamma, lam=lam)
    expected_BT = reference(rewards_BT, values_BT, mask_BT, gamma, lam)
    assert_close(found_BT.numpy(), expected_BT, rtol=1e-12, atol=1e-12)
    assert_close(returns_BT.numpy(), np.where(mask_BT, expected_BT + values_BT, 0.0), rtol=1e-12, atol=1e-12)
    assert not found_BT[~torch.tensor(mask_BT)].any()


def test_with_lambda_and_gamma_1_an_advantage_is_the_rest_of_the_reward_less_the_value(case):
    rewards_BT, values_BT, mask_BT = (torch.tensor(array) for array in case)
    found_BT, returns_BT = gae(rewards_BT, values_BT, mask_BT, gamma=1.0, lam=1.0)
    rest_BT = (rewards_BT * mask_BT).flip(1).cumsum(1).flip(1)
    assert_close(found_BT, (rest_BT - values_BT) * mask_BT)
    assert_close(returns_BT, rest_BT * mask_BT)


def test_one_reward_at_the_end_makes_every_return_that_reward(odd_mask_BT):
    mask_BT = torch.tensor(odd_mask_BT)
    rewards_B = torch.arange(1.0, 8.0, dtype=torch.float64)
    rewards_BT = token_rewards(rewards_B, torch.zeros(mask_BT.shape, dtype=torch.float64), mask_BT, kl_coef=0.0)
    assert_close(rewards_BT.sum(1), rewards_B * mask_BT.any(1))
    values_BT = torch.full(mask_BT.shape, 0.25, dtype=torch.float64)
    found_BT, returns_BT = gae(rewards_BT, values_BT, mask_BT, gamma=1.0, lam=1.0)
    assert_close(found_BT, (rewards_B[:, None] - 0.25) * mask_BT)
    assert_close(returns_BT, rewards_B[:, None] * mask_BT)


def test_a_perfect_value_leaves_no_advantage(odd_mask_BT):
    mask_BT = torch.tensor(odd_mask_BT)
    rewards_B = torch.arange(1.0, 8.0)
    rewards_BT = token_rewards(rewards_B, torch.zeros(mask_BT.shape), mask_BT, kl_coef=0.0)
    values_BT = rewards_B[:, None].expand(mask_BT.shape)
    for lam in (1.0, 0.95, 0.0):
        assert not gae(rewards_BT, values_BT, mask_BT, gamma=1.0, lam=lam)[0].any()


def test_the_kl_is_taken_off_at_each_token_and_the_reward_comes_with_the_last():
    mask_BT = torch.tensor([[False, True, True, False, True, False]])
    kl_BT = torch.tensor([[9.0, 1.0, 2.0, 9.0, -4.0, 9.0]])
    found_BT = token_rewards(torch.tensor([1.0]), kl_BT, mask_BT, kl_coef=0.5)
    assert found_BT.tolist() == [[0.0, -0.5, -1.0, 0.0, 3.0, 0.0]]


def test_padding_and_longer_neighbours_change_nothing(case):
    rewards_BT, values_BT, mask_BT = (torch.tensor(array) for array in case)
    both = gae(rewards_BT, values_BT, mask_BT, gamma=0.99, lam=0.95)
    for row in range(len(mask_BT)):
        alone = gae(rewards_BT[row : row + 1], values_BT[row : row + 1], mask_BT[row : row + 1], gamma=0.99, lam=0.95)
        assert torch.equal(both[0][row], alone[0][0])
        assert torch.equal(both[1][row], alone[1][0])


def test_whitened_advantages_have_mean_0_and_deviation_1_over_the_tokens(case):
    values_BT, mask_BT = torch.tensor(case[1]), torch.tensor(case[2])
    found_BT = whitened(values_BT, mask_BT)
    assert found_BT[mask_BT].mean().item() == pytest.approx(0.0, abs=1e-12)
    assert found_BT[mask_BT].std(correction=0).item() == pytest.approx(1.0)
    assert not found_BT[~mask_BT].any()
    assert not whitened(torch.full(mask_BT.shape, 0.1), mask_BT).any()
    assert not whitened(values_BT, torch.zeros_like(mask_BT)).any()
