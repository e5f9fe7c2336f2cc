"""The GRPO loss: closed forms, a float64 reference written from the formula, and finite differences of that reference.

B: completions   T: token positions
"""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from r1kit.objectives.policy_loss import clipped_surrogate, grpo_loss
from r1kit.objectives.ratios import token_log_ratio
from r1kit.objectives.token_weights import sequence_mean

CLIPS = [(0.2, 0.2), (0.2, 0.28), (10.0, 10.0)]


def reference_loss(logprobs_BT, batch, *, clip_low, clip_high, kl_coef):
    """-sum_it w_it (min(ratio A, clip(ratio) A) - beta k3), one token at a time."""
    objective = 0.0
    for b, t in np.ndindex(logprobs_BT.shape):
        advantage = batch["advantages_B"][b]
        ratio = math.exp(logprobs_BT[b, t] - batch["old_BT"][b, t])
        clipped = min(max(ratio, 1 - clip_low), 1 + clip_high)
        surrogate = min(ratio * advantage, clipped * advantage)
        d = batch["reference_BT"][b, t] - logprobs_BT[b, t]
        objective += batch["weights_BT"][b, t] * (surrogate - kl_coef * (math.exp(d) - d - 1))
    return -objective


def central_differences(function, point_BT, width=1e-6):
    gradient_BT = np.zeros_like(point_BT)
    for place in np.ndindex(point_BT.shape):
        above_BT, below_BT = point_BT.copy(), point_BT.copy()
        above_BT[place] += width
        below_BT[place] -= width
        gradient_BT[place] = (function(above_BT) - function(below_BT)) / (2 * width)
    return gradient_BT


def random_batch():
    """Six completions of up to eight tokens; where none was sampled, weight and logprobs are 0."""
    rng = np.random.default_rng(0)
    mask_BT = np.arange(8)[None, :] < np.array([8, 3, 5, 1, 8, 6])[:, None]
    logprobs_BT = rng.normal(-2, 1, mask_BT.shape) * mask_BT
    return logprobs_BT, {
        "old_BT": (logprobs_BT + rng.normal(0, 0.3, mask_BT.shape)) * mask_BT,
        "reference_BT": (logprobs_BT + rng.normal(0, 0.5, mask_BT.shape)) * mask_BT,
        "advantages_B": rng.normal(size=6),
        "weights_BT": sequence_mean(torch.from_numpy(mask_BT)).double().numpy(),
    }


def loss_of(logprobs_BT, batch, *, with_reference=True, **settings):
    tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
    return grpo_loss(
        logprobs_BT,
        tensors["old_BT"],
        advantages_B=tensors["advantages_B"],
        token_weights_BT=tensors["weights_BT"],
        reference_logprobs_BT=tensors["reference_BT"] if with_reference else None,
        **settings,
    )


def surrogate_gradient(log_ratio, advantage, *, clip_low=0.2, clip_high=0.2):
    log_ratio_BT = torch.tensor([[log_ratio]], dtype=torch.float64, requires_grad=True)
    surrogate_BT = clipped_surrogate(log_ratio_BT, torch.tensor([advantage]), clip_low=clip_low, clip_high=clip_high)
    return float(torch.autograd.grad(surrogate_BT.sum(), log_ratio_BT)[0])


@pytest.mark.parametrize(("clip_low", "clip_high"), CLIPS)
@pytest.mark.parametrize("kl_coef", [0.0, 0.1])
def test_loss_and_gradient_equal_the_reference_and_its_finite_differences(clip_low, clip_high, kl_coef):
    logprobs_BT, batch = random_batch()
    settings = {"clip_low": clip_low, "clip_high": clip_high, "kl_coef": kl_coef}
    tensor_BT = torch.from_numpy(logprobs_BT).requires_grad_()

    loss, _ = loss_of(tensor_BT, batch, **settings)
    (gradient_BT,) = torch.autograd.grad(loss, tensor_BT)

    assert math.isclose(float(loss.detach()), reference_loss(logprobs_BT, batch, **settings), rel_tol=1e-12)
    expected_BT = central_differences(lambda point_BT: reference_loss(point_BT, batch, **settings), logprobs_BT)
    assert_close(gradient_BT.numpy(), expected_BT, rtol=1e-6, atol=1e-8)
    assert (gradient_BT.numpy()[batch["weights_BT"] == 0] == 0).all()


def test_without_a_reference_the_loss_is_that_of_kl_coefficient_0():
    logprobs_BT, batch = random_batch()
    tensor_BT = torch.from_numpy(logprobs_BT)

    loss, watched = loss_of(tensor_BT, batch, with_reference=False, clip_low=0.2, clip_high=0.2, kl_coef=0.1)

    assert_close(loss, loss_of(tensor_BT, batch, clip_low=0.2, clip_high=0.2, kl_coef=0.0)[0])
    assert "kl" not in watched


def test_watched_figures_count_clipped_tokens_and_hold_the_kl_of_each():
    logprobs_BT, batch = random_batch()
    _, watched = loss_of(torch.from_numpy(logprobs_BT), batch, clip_low=0.2, clip_high=0.28, kl_coef=0.1)

    ratio_BT = np.exp(logprobs_BT - batch["old_BT"])
    advantages_B1 = batch["advantages_B"][:, None]
    clipped_BT = np.where(advantages_B1 > 0, ratio_BT > 1.28, ratio_BT < 0.8)
    d_BT = batch["reference_BT"] - logprobs_BT
    assert 5 < clipped_BT.sum() < 30
    assert watched["clip_share"].tolist() == clipped_BT.astype(float).tolist()
    assert_close(watched["kl"].numpy(), np.exp(d_BT) - d_BT - 1)


@pytest.mark.parametrize("advantage", [1.5, -0.7])
def test_at_ratio_1_the_gradient_with_respect_to_a_logprob_is_the_advantage(advantage):
    assert surrogate_gradient(0.0, advantage) == pytest.approx(advantage, rel=1e-6)


@pytest.mark.parametrize(
    ("log_ratio", "advantage", "is_clipped"),
    [(0.5, 1.0, True), (-0.5, -1.0, True), (0.5, -1.0, False), (-0.5, 1.0, False), (0.1, 1.0, False)],
)
def test_the_clip_takes_the_gradient_away_on_the_favourable_side_alone(log_ratio, advantage, is_clipped):
    expected = 0.0 if is_clipped else math.exp(log_ratio) * advantage

    assert surrogate_gradient(log_ratio, advantage) == pytest.approx(expected, rel=1e-12)


def test_the_two_sides_are_clipped_at_their_own_bounds():
    inside_high, beyond_low = math.log(1.25), math.log(0.75)

    assert surrogate_gradient(inside_high, 1.0, clip_low=0.2, clip_high=0.28) == pytest.approx(1.25)
    assert surrogate_gradient(inside_high, 1.0, clip_low=0.28, clip_high=0.2) == 0
    assert surrogate_gradient(beyond_low, -1.0, clip_low=0.2, clip_high=0.28) == 0
    assert surrogate_gradient(beyond_low, -1.0, clip_low=0.28, clip_high=0.2) == pytest.approx(-0.75)


@pytest.mark.parametrize("log_ratio", [-15.0, -1.0, 0.0, 1.0, 5.0, 15.0])
def test_a_clip_of_10_never_clips_negative_advantages(log_ratio):
    gradient = surrogate_gradient(log_ratio, -2.0, clip_low=10, clip_high=10)

    assert gradient == pytest.approx(-2 * math.exp(log_ratio), rel=1e-12)
    assert (surrogate_gradient(log_ratio, 2.0, clip_low=10, clip_high=10) == 0) == (math.exp(log_ratio) > 11)


def test_extreme_ratios_are_held_at_20_with_finite_loss_and_gradients():
    logprobs_BT = torch.tensor([[0.0, -1e4, 1e30, -25.0]] * 2, requires_grad=True)
    old_BT = torch.tensor([[-1e4, 0.0, 0.0, 0.0]] * 2)

    loss, watched = grpo_loss(
        logprobs_BT,
        old_BT,
        advantages_B=torch.tensor([1.0, -1.0]),
        token_weights_BT=torch.full((2, 4), 1 / 8),
        reference_logprobs_BT=old_BT,
        clip_low=0.2,
        clip_high=0.2,
        kl_coef=0.1,
    )
    (gradient_BT,) = torch.autograd.grad(loss, logprobs_BT)

    # Advantage 1 gives 1.2 or e^-20 a token, advantage -1 gives -e^20 or -0.8; the KL of both rows is the same.
    surrogate = (2 * 1.2 + 2 * math.exp(-20)) + (-2 * math.exp(20) - 2 * 0.8)
    kl = 4 * (math.exp(-20) + 20 - 1) + 4 * (math.exp(20) - 20 - 1)
    assert float(loss.detach()) == pytest.approx(-(surrogate - 0.1 * kl) / 8, rel=1e-6)
    assert token_log_ratio(logprobs_BT, old_BT).tolist() == [[20.0, -20.0, 20.0, -20.0]] * 2
    assert gradient_BT.isfinite().all() and all(figure_BT.isfinite().all() for figure_BT in watched.values())
