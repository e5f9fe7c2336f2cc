"""Weights for other samplers: closed forms, and what an exact sampler's are.

B: completions   T: token positions
"""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from r1kit.objectives.importance import masked_weights, off_policy_mask, truncated_weights
from r1kit.objectives.ratios import sequence_log_ratio


def log_of(*ratios):
    return torch.tensor([ratios], dtype=torch.float64).log()


def test_truncation_holds_weights_at_the_cap_and_masking_drops_what_is_outside():
    log_ratio_BT = log_of(0.1, 0.5, 1.0, 2.0, 2.5)

    held_BT, cut_BT = truncated_weights(log_ratio_BT, cap=2.0)
    assert_close(held_BT, torch.tensor([[0.1, 0.5, 1.0, 2.0, 2.0]], dtype=torch.float64))
    assert cut_BT.tolist() == [[0, 0, 0, 0, 1]]

    kept_BT, cut_BT = masked_weights(log_ratio_BT, low=0.4, high=2.2)
    assert_close(kept_BT, torch.tensor([[0.0, 0.5, 1.0, 2.0, 0.0]], dtype=torch.float64))
    assert cut_BT.tolist() == [[1, 0, 0, 0, 1]]


@pytest.mark.parametrize("weigh", [lambda x: truncated_weights(x, cap=1.0), lambda x: masked_weights(x, low=1, high=1)])
def test_where_both_agree_the_weight_is_exactly_1_and_nothing_is_cut(weigh):
    weights_BT, cut_BT = weigh(torch.zeros(3, 4))
    assert weights_BT.tolist() == [[1.0] * 4] * 3
    assert cut_BT.tolist() == [[0.0] * 4] * 3


def test_weights_carry_no_gradient():
    log_ratio_BT = torch.zeros(2, 3, requires_grad=True)
    for weights_BT, cut_BT in (truncated_weights(log_ratio_BT, cap=2), masked_weights(log_ratio_BT, low=0.5, high=2)):
        assert not weights_BT.requires_grad and not cut_BT.requires_grad


def test_the_whole_completions_weight_makes_another_samplers_mean_the_policys_own():
    # Two tokens of a vocabulary of three, all nine completions: what one would earn under the other sampler, weighted.
    rng = np.random.default_rng(0)
    policy_2V, sampler_2V = (torch.from_numpy(rng.normal(0, 0.3, (2, 3))).log_softmax(-1) for _ in range(2))
    pairs = [(a, b) for a in range(3) for b in range(3)]
    policy_BT, sampler_BT = (
        torch.stack([torch.stack([p[0, a], p[1, b]]) for a, b in pairs]) for p in (policy_2V, sampler_2V)
    )
    rewards_B = torch.from_numpy(rng.normal(size=9))
    log_ratio_BT = sequence_log_ratio(policy_BT - sampler_BT, torch.ones(9, 2, dtype=torch.bool))

    weights_BT, cut_BT = truncated_weights(log_ratio_BT, cap=100.0)

    wanted = (policy_BT.sum(-1).exp() * rewards_B).sum()
    assert cut_BT.sum() == 0
    assert_close((sampler_BT.sum(-1).exp() * weights_BT[:, 0] * rewards_B).sum(), wanted)
    assert not math.isclose(float((sampler_BT.sum(-1).exp() * rewards_B).sum()), float(wanted), rel_tol=1e-2)


def test_the_off_policy_mask_drops_bad_completions_that_the_policy_has_left(odd_mask_BT):
    mask_BT = torch.from_numpy(odd_mask_BT)
    gone_B1 = torch.tensor([[0.6], [0.4], [9.0], [0.6], [0.6], [-9.0], [0.6]])
    logprobs_BT = torch.randn(7, 11, generator=torch.Generator().manual_seed(0))
    # Where nothing was sampled, the sampler may say anything.
    sampler_BT = torch.where(mask_BT, logprobs_BT + gone_B1, 50.0)
    advantages_B = torch.tensor([-1.0, -1.0, -1.0, 1.0, -0.1, -1.0, 0.0])

    kept_B1 = off_policy_mask(logprobs_BT, sampler_BT, advantages_B, mask_BT, delta=0.5)

    # left and bad; not left enough; empty; good; left and bad; likelier than before; without advantage
    assert kept_B1.tolist() == [[0.0], [1.0], [1.0], [1.0], [0.0], [1.0], [1.0]]
