"""The value loss against a float64 reference, finite differences and closed forms.

B: completions   T: token positions
"""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from r1kit.objectives.value_loss import clipped_values, explained_variance, value_loss


@pytest.fixture
def case(odd_mask_BT):
    """Values, old values, returns and weights; weights are 0 outside an odd mask."""
    rng = np.random.default_rng(0)
    values_BT, old_BT, returns_BT = (rng.standard_normal(odd_mask_BT.shape) for _ in range(3))
    return values_BT, old_BT, returns_BT, odd_mask_BT * rng.random(odd_mask_BT.shape)


def reference(values_BT, old_BT, returns_BT, weights_BT, clip):
    total = 0.0
    for place in np.ndindex(values_BT.shape):
        value, old, target = values_BT[place], old_BT[place], returns_BT[place]
        error = (value - target) ** 2
        if clip is not None:
            error = max(error, (min(max(value, old - clip), old + clip) - target) ** 2)
        total += 0.5 * weights_BT[place] * error
    return total


def tensors(arrays):
    return [torch.tensor(array) for array in arrays]


@pytest.mark.parametrize("clip", [None, 0.2, 1.0])
def test_the_loss_and_its_gradient_are_the_references(case, clip, central_differences):
    assert_close(value_loss(*tensors(case), clip=clip).item(), reference(*case, clip), rtol=1e-12, atol=0)
    values_BT = torch.tensor(case[0], requires_grad=True)
    (gradient_BT,) = torch.autograd.grad(value_loss(values_BT, *tensors(case[1:]), clip=clip), values_BT)
    expected_BT = central_differences(lambda point_BT: reference(point_BT, *case[1:], clip), case[0])
    assert_close(gradient_BT.numpy(), expected_BT, rtol=1e-6, atol=1e-9)
    # What counts as clipped has no gradient, and nothing else that weighs something.
    counted_BT = clipped_values(*tensors(case[:3]), clip=clip).bool()
    weighs_BT = torch.tensor(case[3] > 0)
    assert torch.equal(gradient_BT == 0, counted_BT | ~weighs_BT)
    assert bool(counted_BT.any()) == (clip is not None)


def test_closed_forms():
    ones_BT = torch.ones(1, 4)
    halves_BT = ones_BT / 4
    assert value_loss(ones_BT, ones_BT, 0 * ones_BT, halves_BT, clip=None).item() == 0.5
    assert value_loss(ones_BT, ones_BT, ones_BT, halves_BT, clip=0.2).item() == 0.0
    # From 0 it went all the way to a return of 1: without a clip the loss is 0, with one it is (0.2 - 1)^2 / 2.
    assert value_loss(ones_BT, 0 * ones_BT, ones_BT, halves_BT, clip=0.2).item() == pytest.approx(0.32)


def test_explained_variance_of_known_cases():
    returns_N = torch.tensor([0.0, 1, 2, 3])
    assert explained_variance(returns_N, returns_N) == 1.0
    assert explained_variance(torch.full((4,), 9.0), returns_N) == 0.0
    assert explained_variance(-returns_N, returns_N) == pytest.approx(-3.0)
    assert explained_variance(returns_N, torch.ones(4)) == 0.0
    assert explained_variance(torch.zeros(0), torch.zeros(0)) == 0.0
