"""The three ratios: each is what its name says, and each token's gradient is what its formula says.

B: completions   T: token positions
"""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from r1kit.objectives.ratios import sequence_log_ratio, sequence_mean_log_ratio, token_log_ratio


def log_ratios(mask_BT, scale=0.3):
    """Nonsense stands where no token was sampled."""
    return np.random.default_rng(0).normal(0, scale, mask_BT.shape) + 5 * ~mask_BT


def gradient_of(ratio, log_ratio_BT, mask_BT, upstream_BT):
    tensor_BT = torch.from_numpy(log_ratio_BT).requires_grad_()
    value_BT = ratio(tensor_BT, torch.from_numpy(mask_BT)).exp()
    (gradient_BT,) = torch.autograd.grad((value_BT * torch.from_numpy(upstream_BT)).sum(), tensor_BT)
    return value_BT.detach().numpy(), gradient_BT.numpy()


def test_the_token_ratio_is_that_of_each_token():
    logprobs_BT, old_BT = torch.tensor([[-1.0, -2.0, -7.0]]), torch.tensor([[-1.5, -2.0, -3.0]])
    assert_close(token_log_ratio(logprobs_BT, old_BT), torch.tensor([[0.5, 0.0, -4.0]]))


def test_the_sequence_ratio_is_the_product_over_the_tokens_that_were_sampled(odd_mask_BT):
    log_ratio_BT = log_ratios(odd_mask_BT)
    found_BT = sequence_log_ratio(torch.from_numpy(log_ratio_BT), torch.from_numpy(odd_mask_BT)).exp()

    for row, mask_T in enumerate(odd_mask_BT):
        product = math.prod(math.exp(x) for x, counts in zip(log_ratio_BT[row], mask_T, strict=True) if counts)
        assert_close(found_BT[row], torch.full((11,), product, dtype=torch.float64))
    assert found_BT[2].tolist() == [1.0] * 11  # an empty completion is as likely as it was


def test_the_sequence_mean_is_the_geometric_mean_over_the_tokens_that_were_sampled(odd_mask_BT):
    log_ratio_BT = log_ratios(odd_mask_BT)
    found_BT = sequence_mean_log_ratio(torch.from_numpy(log_ratio_BT), torch.from_numpy(odd_mask_BT)).exp()

    for row, mask_T in enumerate(odd_mask_BT):
        sampled = [math.exp(x) for x, counts in zip(log_ratio_BT[row], mask_T, strict=True) if counts]
        mean = math.prod(sampled) ** (1 / len(sampled)) if sampled else 1.0
        assert_close(found_BT[row], torch.full((11,), mean, dtype=torch.float64))


def test_the_gradient_of_the_sequence_ratio_is_the_ratio_at_every_sampled_token(odd_mask_BT):
    upstream_BT = np.random.default_rng(1).normal(size=odd_mask_BT.shape)
    value_BT, gradient_BT = gradient_of(sequence_log_ratio, log_ratios(odd_mask_BT), odd_mask_BT, upstream_BT)

    expected_BT = value_BT * upstream_BT.sum(-1, keepdims=True) * odd_mask_BT
    assert_close(gradient_BT, expected_BT, rtol=1e-12, atol=1e-14)


def test_the_gradient_of_the_sequence_mean_stays_with_its_own_token(odd_mask_BT):
    upstream_BT = np.random.default_rng(1).normal(size=odd_mask_BT.shape) * odd_mask_BT
    value_BT, gradient_BT = gradient_of(sequence_mean_log_ratio, log_ratios(odd_mask_BT), odd_mask_BT, upstream_BT)

    assert_close(gradient_BT, value_BT * upstream_BT, rtol=1e-12, atol=1e-14)
    assert (gradient_BT[~odd_mask_BT] == 0).all()


def test_with_equal_upstream_gradients_the_sequence_means_gradient_is_that_of_the_plain_mean(
    odd_mask_BT, central_differences
):
    log_ratio_BT = log_ratios(odd_mask_BT)
    upstream_BT = odd_mask_BT / odd_mask_BT.sum(-1, keepdims=True).clip(1)

    def plain(point_BT):
        counts_B = odd_mask_BT.sum(-1).clip(1)
        return float(sum(math.exp((x * m).sum() / n) for x, m, n in zip(point_BT, odd_mask_BT, counts_B, strict=True)))

    _, gradient_BT = gradient_of(sequence_mean_log_ratio, log_ratio_BT, odd_mask_BT, upstream_BT)
    assert_close(gradient_BT, central_differences(plain, log_ratio_BT), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("ratio", [sequence_log_ratio, sequence_mean_log_ratio])
@pytest.mark.parametrize("each", [1e3, -1e3])
def test_beyond_20_a_ratio_of_a_completion_is_held_and_has_no_gradient(ratio, each):
    mask_BT = np.ones((1, 4), dtype=bool)
    value_BT, gradient_BT = gradient_of(ratio, np.full((1, 4), each), mask_BT, np.ones((1, 4)))

    assert_close(value_BT, np.full((1, 4), math.exp(math.copysign(20, each))))
    assert gradient_BT.tolist() == [[0.0] * 4]


def test_beyond_20_a_tokens_ratio_is_held_and_has_no_gradient():
    logprobs_BT = torch.tensor([[0.0, -1e3, -25.0, -1.0]], requires_grad=True)
    old_BT = torch.tensor([[-1e3, 0.0, 0.0, -1.5]])

    log_ratio_BT = token_log_ratio(logprobs_BT, old_BT)
    (gradient_BT,) = torch.autograd.grad(log_ratio_BT.sum(), logprobs_BT)

    assert log_ratio_BT.tolist() == [[20.0, -20.0, -20.0, 0.5]]
    assert gradient_BT.tolist() == [[0.0, 0.0, 0.0, 1.0]]


def test_on_policy_all_three_ratios_are_exactly_1_and_have_a_gradient(odd_mask_BT):
    mask_BT = torch.from_numpy(odd_mask_BT)
    logprobs_BT = torch.randn(7, 11, generator=torch.Generator().manual_seed(0)).requires_grad_()
    log_ratio_BT = logprobs_BT - logprobs_BT.detach()
    for value_BT in (
        token_log_ratio(logprobs_BT, logprobs_BT.detach()),
        sequence_log_ratio(log_ratio_BT, mask_BT),
        sequence_mean_log_ratio(log_ratio_BT, mask_BT),
    ):
        (gradient_BT,) = torch.autograd.grad((value_BT.exp() * mask_BT).sum(), logprobs_BT, retain_graph=True)
        assert bool((value_BT == 0).all())
        assert bool((gradient_BT[mask_BT] > 0).all())
