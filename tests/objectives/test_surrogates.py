"""What each objective makes of one token: the gradient that its formula promises, and where it takes it away.

B: completions   T: token positions
"""

import math

import pytest
import torch

from r1kit.objectives import policy_loss
from r1kit.objectives.ratios import sequence_mean_log_ratio

DUAL = {"clip_low": 0.2, "clip_high": 0.28, "dual_clip": 3.0}


def value_and_gradient(surrogate, log_ratio, advantage, **settings):
    """Of a completion of one token."""
    log_ratio_BT = torch.tensor([[log_ratio]], dtype=torch.float64, requires_grad=True)
    value_BT = surrogate(log_ratio_BT, torch.tensor([advantage], dtype=torch.float64), **settings)
    (gradient_BT,) = torch.autograd.grad(value_BT.sum(), log_ratio_BT)
    return float(value_BT.detach()), float(gradient_BT)


def cispo(log_ratio_BT, advantages_B, **settings):
    """As if the old policy had given each token probability 1."""
    return policy_loss.cispo_surrogate(log_ratio_BT, log_ratio_BT, advantages_B, **settings)


def gmpo(log_ratio_BT, advantages_B, **settings):
    return policy_loss.gmpo_surrogate(
        log_ratio_BT, advantages_B, torch.ones_like(log_ratio_BT, dtype=torch.bool), **settings
    )


ALL = {
    "clipped": (policy_loss.clipped_surrogate, {"clip_low": 0.2, "clip_high": 0.2}),
    "dual clipped": (policy_loss.clipped_surrogate, DUAL),
    "clip of 10": (policy_loss.clipped_surrogate, {"clip_low": 10, "clip_high": 10}),
    "cispo": (cispo, {"cap": 5.0}),
    "gmpo": (gmpo, {"log_clip_low": 0.4, "log_clip_high": 0.4}),
    "sapo": (policy_loss.sapo_surrogate, {"temperature_positive": 1.0, "temperature_negative": 1.05}),
    "reinforce": (policy_loss.reinforce_surrogate, {}),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("advantage", [1.5, -0.7])
def test_at_ratio_1_every_objective_is_reinforce_with_a_baseline(name, advantage):
    surrogate, settings = ALL[name]
    assert value_and_gradient(surrogate, 0.0, advantage, **settings)[1] == pytest.approx(advantage, rel=1e-12)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("log_ratio", [-20.0, -1.0, 0.0, 1.0, 20.0])
def test_no_objective_learns_from_a_completion_without_advantage(name, log_ratio):
    surrogate, settings = ALL[name]
    assert value_and_gradient(surrogate, log_ratio, 0.0, **settings)[1] == 0


@pytest.mark.parametrize("log_ratio", [1.0, math.log(3.0) - 1e-9])
def test_a_dual_clip_leaves_negative_advantages_below_it_as_they_are(log_ratio):
    value, gradient = value_and_gradient(policy_loss.clipped_surrogate, log_ratio, -2.0, **DUAL)
    assert value == gradient == pytest.approx(-2 * math.exp(log_ratio), rel=1e-12)


@pytest.mark.parametrize("log_ratio", [math.log(3.0) + 1e-9, 5.0, 20.0])
def test_a_dual_clip_holds_negative_advantages_beyond_it(log_ratio):
    assert value_and_gradient(policy_loss.clipped_surrogate, log_ratio, -2.0, **DUAL) == (-6.0, 0.0)


def test_a_dual_clip_does_not_touch_positive_advantages():
    loose = {"clip_low": 10.0, "clip_high": 10.0, "dual_clip": 3.0}
    value, gradient = value_and_gradient(policy_loss.clipped_surrogate, math.log(5.0), 1.0, **loose)
    assert value == gradient == pytest.approx(5.0)


@pytest.mark.parametrize(("log_ratio", "advantage"), [(0.3, 1.0), (0.3, -1.0), (-0.3, 1.0), (-0.3, -1.0), (9.0, -1.0)])
def test_clipped_tokens_are_those_without_a_gradient(log_ratio, advantage):
    for settings in (DUAL, DUAL | {"dual_clip": None}):
        _, gradient = value_and_gradient(policy_loss.clipped_surrogate, log_ratio, advantage, **settings)
        counted = policy_loss.clipped_tokens(torch.tensor([[log_ratio]]), torch.tensor([advantage]), **settings)
        assert float(counted) == float(gradient == 0)


@pytest.mark.parametrize(
    ("log_ratio", "weight"), [(-3.0, math.exp(-3)), (0.5, math.exp(0.5)), (math.log(5), 5.0), (3.0, 5.0), (20.0, 5.0)]
)
@pytest.mark.parametrize("advantage", [1.0, -2.0])
def test_cispo_keeps_every_tokens_gradient_and_its_cap_is_the_largest_weight_itself(log_ratio, weight, advantage):
    _, gradient = value_and_gradient(cispo, log_ratio, advantage, cap=5.0)
    assert gradient == pytest.approx(weight * advantage, rel=1e-12)


def test_cispo_with_a_floor_lifts_small_weights():
    assert value_and_gradient(cispo, -3.0, 2.0, cap=5.0, floor=0.5)[1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("log_ratio", "advantage", "held"),
    [(0.6, 1.0, 0.4), (-0.6, 1.0, -0.6), (0.6, -1.0, 0.6), (-0.6, -1.0, -0.3), (0.2, 1.0, 0.2), (-0.2, -1.0, -0.2)],
)
def test_gmpo_clips_the_log_ratio_on_the_favourable_side_alone(log_ratio, advantage, held):
    value, gradient = value_and_gradient(gmpo, log_ratio, advantage, log_clip_low=0.3, log_clip_high=0.4)
    assert value == pytest.approx(advantage * math.exp(held), rel=1e-12)
    assert gradient == (pytest.approx(value, rel=1e-12) if held == log_ratio else 0.0)


def test_in_gmpo_one_wild_token_cannot_move_its_completion():
    log_ratio_BT = torch.tensor([[0.1, 50.0, -0.1, 0.0]], dtype=torch.float64)
    mask_BT, advantages_B = torch.ones(1, 4, dtype=torch.bool), torch.tensor([1.0], dtype=torch.float64)

    held_BT = policy_loss.gmpo_surrogate(log_ratio_BT, advantages_B, mask_BT, log_clip_low=0.4, log_clip_high=0.4)

    assert held_BT.tolist() == [[pytest.approx(math.exp(0.4 / 4))] * 4]
    assert float(sequence_mean_log_ratio(log_ratio_BT, mask_BT)[0, 0]) == pytest.approx(12.5)


@pytest.mark.parametrize(("advantage", "temperature"), [(1.0, 1.0), (-1.0, 1.05)])
def test_sapos_gradient_fades_on_both_sides_and_faster_for_negative_advantages(advantage, temperature):
    settings = ALL["sapo"][1]
    for log_ratio in (-2.0, -0.5, 0.0, 0.5, 1.5):
        ratio = math.exp(log_ratio)
        p = 1 / (1 + math.exp(-temperature * (ratio - 1)))
        value, gradient = value_and_gradient(policy_loss.sapo_surrogate, log_ratio, advantage, **settings)
        assert value == pytest.approx(advantage * 4 / temperature * p, rel=1e-12)
        assert gradient == pytest.approx(advantage * 4 * p * (1 - p) * ratio, rel=1e-12)
    gradients = {
        x: abs(value_and_gradient(policy_loss.sapo_surrogate, x, advantage, **settings)[1]) for x in (0.0, 3.0)
    }
    assert gradients[3.0] < 1e-3 * gradients[0.0]
