"""The losses of reward models against float64 references, finite differences and closed forms.

N: pairs or completions
"""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from r1kit.objectives.preference_loss import correlation, expected_calibration_error, pairwise_loss, pointwise_loss


def tensors(*arrays):
    return [torch.tensor(array, dtype=torch.float64) for array in arrays]


@pytest.fixture
def scores():
    """Chosen and rejected scores of nine pairs, from hopeless to overwhelming, and their weights."""
    rng = np.random.default_rng(0)
    chosen_N, rejected_N = 3 * rng.standard_normal(9), 3 * rng.standard_normal(9)
    chosen_N[0], rejected_N[0] = 400.0, -400.0
    chosen_N[1], rejected_N[1] = -400.0, 400.0
    return chosen_N, rejected_N, rng.dirichlet(np.ones(9))


def reference_pairwise(chosen_N, rejected_N, weights_N):
    return sum(w * np.logaddexp(0.0, r - c) for c, r, w in zip(chosen_N, rejected_N, weights_N, strict=True))


def reference_pointwise(scores_N, labels_N, weights_N):
    return sum(
        w * (np.logaddexp(0.0, -s) if y else np.logaddexp(0.0, s))
        for s, y, w in zip(scores_N, labels_N, weights_N, strict=True)
    )


def test_the_pairwise_loss_is_the_float64_reference(scores):
    assert_close(pairwise_loss(*tensors(*scores)).item(), reference_pairwise(*scores), rtol=1e-12, atol=0)
    single = pairwise_loss(*(tensor.float() for tensor in tensors(*scores)))
    assert_close(single.item(), reference_pairwise(*scores), rtol=1e-5, atol=0)


def test_its_gradient_is_that_of_finite_differences(scores, central_differences):
    chosen_N, rejected_N, weights_N = scores
    chosen_N, rejected_N = np.clip(chosen_N, -5, 5), np.clip(rejected_N, -5, 5)
    tensor_N = torch.tensor(chosen_N, requires_grad=True)
    (gradient_N,) = torch.autograd.grad(pairwise_loss(tensor_N, *tensors(rejected_N, weights_N)), tensor_N)
    expected_N = central_differences(lambda point_N: reference_pairwise(point_N, rejected_N, weights_N), chosen_N)
    assert_close(gradient_N.numpy(), expected_N, rtol=1e-6, atol=1e-9)
    closed_N = -weights_N / (1 + np.exp(chosen_N - rejected_N))
    assert_close(gradient_N.numpy(), closed_N, rtol=1e-12, atol=0)


def test_closed_forms_of_pairs():
    zero_N, half_N = torch.zeros(2), torch.full((2,), 0.5)
    assert pairwise_loss(zero_N, zero_N, half_N).item() == pytest.approx(math.log(2))
    # A difference of d is right with probability sigmoid(d): at log 3, three times in four.
    assert pairwise_loss(zero_N + math.log(3), zero_N, half_N).item() == pytest.approx(math.log(4 / 3))
    assert pairwise_loss(zero_N + 1e4, zero_N, half_N).item() == 0.0
    assert pairwise_loss(zero_N, zero_N + 1e4, half_N).item() == pytest.approx(1e4)


def test_a_constant_added_to_all_scores_changes_nothing(scores):
    chosen_N, rejected_N, weights_N = tensors(*scores)
    assert_close(pairwise_loss(chosen_N + 7, rejected_N + 7, weights_N), pairwise_loss(chosen_N, rejected_N, weights_N))


def test_the_pointwise_loss_is_the_float64_reference(scores, central_differences):
    scores_N, _, weights_N = scores
    labels_N = (np.arange(9) % 3 == 0).astype(float)
    given = tensors(scores_N, labels_N, weights_N)
    assert_close(pointwise_loss(*given).item(), reference_pointwise(scores_N, labels_N, weights_N), rtol=1e-12, atol=0)
    scores_N = np.clip(scores_N, -5, 5)
    tensor_N = torch.tensor(scores_N, requires_grad=True)
    (gradient_N,) = torch.autograd.grad(pointwise_loss(tensor_N, *given[1:]), tensor_N)
    expected_N = central_differences(lambda point_N: reference_pointwise(point_N, labels_N, weights_N), scores_N)
    assert_close(gradient_N.numpy(), expected_N, rtol=1e-6, atol=1e-9)
    assert_close(gradient_N.numpy(), weights_N * (1 / (1 + np.exp(-scores_N)) - labels_N), rtol=1e-10, atol=1e-15)


def test_calibration_of_known_cases():
    # Says 0.8 and is right four times in five: calibrated. Says 0.95 and is right half the time: off by 0.45.
    good_N, outcomes_N = torch.full((5,), 0.8), torch.tensor([1.0, 1, 1, 1, 0])
    assert expected_calibration_error(good_N, outcomes_N) == pytest.approx(0.0, abs=1e-7)
    sure_N, half_N = torch.full((4,), 0.95), torch.tensor([1.0, 0, 1, 0])
    assert expected_calibration_error(sure_N, half_N) == pytest.approx(0.45)
    both = expected_calibration_error(torch.cat([good_N, sure_N]), torch.cat([outcomes_N, half_N]))
    assert both == pytest.approx(0.45 * 4 / 9)
    assert expected_calibration_error(torch.ones(3), torch.ones(3)) == 0.0
    assert expected_calibration_error(torch.zeros(0), torch.zeros(0)) == 0.0


def test_correlation_is_numpys():
    rng = np.random.default_rng(1)
    left_N, right_N = rng.standard_normal(20), rng.standard_normal(20)
    assert correlation(*tensors(left_N, right_N)) == pytest.approx(np.corrcoef(left_N, right_N)[0, 1], rel=1e-12)
    assert correlation(*tensors(left_N, 3 - 2 * left_N)) == pytest.approx(-1.0)
    assert correlation(torch.ones(4), torch.arange(4.0)) == 0.0
