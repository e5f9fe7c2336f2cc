"""Token weights: what they sum to, where they agree, and what they make of a loss.

B: completions   T: token positions
"""

import pytest
import torch
from torch.testing import assert_close

from r1kit.objectives.sft_loss import sft_loss
from r1kit.objectives.token_weights import constant_length, sequence_mean, token_mean


def mask_of(lengths, num_positions=9, offset=2):
    """Each completion stands after `offset` prompt tokens."""
    positions_T = torch.arange(num_positions)[None, :] - offset
    return (positions_T >= 0) & (positions_T < torch.tensor(lengths)[:, None])


def values_of(mask_BT):
    return torch.randn(mask_BT.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def lists_under(values_BT, mask_BT):
    rows = zip(values_BT.tolist(), mask_BT.tolist(), strict=True)
    return [[value for value, counts in zip(*row, strict=True) if counts] for row in rows]


def test_each_weighting_is_the_mean_that_its_name_says():
    mask_BT = mask_of([7, 1, 3, 4])
    values_BT = values_of(mask_BT)
    rows = lists_under(values_BT, mask_BT)

    mean_of_means = sum(sum(row) / len(row) for row in rows) / 4
    mean_of_tokens = sum(map(sum, rows)) / 15
    assert_close(float((values_BT * sequence_mean(mask_BT)).sum()), mean_of_means)
    assert_close(float((values_BT * token_mean(mask_BT)).sum()), mean_of_tokens)
    assert_close(float((values_BT * constant_length(mask_BT, max_new_tokens=16)).sum()), sum(map(sum, rows)) / (4 * 16))


@pytest.mark.parametrize("weigh", [sequence_mean, token_mean])
def test_weights_sum_to_1_and_are_0_outside_the_mask(weigh):
    mask_BT = mask_of([7, 1, 3, 4])

    assert_close(float(weigh(mask_BT).sum()), 1.0)
    assert bool((weigh(mask_BT)[~mask_BT] == 0).all()) and bool((weigh(mask_BT)[mask_BT] > 0).all())


def test_sequence_and_token_means_coincide_for_equal_lengths_alone():
    assert_close(sequence_mean(mask_of([5, 5, 5])), token_mean(mask_of([5, 5, 5])))
    assert_close(constant_length(mask_of([5, 5, 5]), max_new_tokens=5), token_mean(mask_of([5, 5, 5])))
    assert not torch.allclose(sequence_mean(mask_of([5, 4, 5])), token_mean(mask_of([5, 4, 5])))


def test_an_empty_completion_keeps_its_share_of_the_sequence_mean_and_has_none_of_the_token_mean():
    mask_BT = mask_of([4, 0, 2, 2])

    assert_close(float(sequence_mean(mask_BT).sum()), 0.75)
    assert_close(float(token_mean(mask_BT).sum()), 1.0)
    assert float(token_mean(mask_of([0, 0])).sum()) == float(sequence_mean(mask_of([0, 0])).sum()) == 0


def test_the_sft_loss_is_the_weighted_negative_log_likelihood_and_its_gradient_the_weights():
    mask_BT = mask_of([7, 1, 3, 4])
    logprobs_BT = values_of(mask_BT).requires_grad_()
    weights_BT = token_mean(mask_BT).double()

    loss = sft_loss(logprobs_BT, token_weights_BT=weights_BT)
    (gradient_BT,) = torch.autograd.grad(loss, logprobs_BT)

    rows = lists_under(logprobs_BT, mask_BT)
    assert_close(float(loss.detach()), -sum(map(sum, rows)) / 15)
    assert torch.equal(gradient_BT, -weights_BT)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_weighted_loss_cut_into_parts_sums_to_the_whole(cut):
    mask_BT = mask_of([7, 1, 3, 4])
    logprobs_BT, weights_BT = values_of(mask_BT), sequence_mean(mask_BT).double()

    parts = [sft_loss(logprobs_BT[i : i + cut], token_weights_BT=weights_BT[i : i + cut]) for i in range(0, 4, cut)]

    assert_close(sum(parts), sft_loss(logprobs_BT, token_weights_BT=weights_BT))
