"""The KL estimators: values and gradients, against formulas and against sums over a whole vocabulary.

V: vocabulary
"""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from r1kit.objectives.kl import MAX_LOG_RATIO, kl_k1, kl_k2, kl_k3, kl_k3_corrected, kl_k3_straight
from r1kit.objectives.policy_loss import weighted_loss
from r1kit.objectives.ratios import token_log_ratio


def distributions(vocab_size=50, seed=0):
    """Policy, reference and an old policy, as log-probabilities."""
    generator = torch.Generator().manual_seed(seed)
    logits_3V = 2 * torch.randn(3, vocab_size, generator=generator, dtype=torch.float64)
    logits_3V[2] = logits_3V[0] + 0.3 * logits_3V[2]
    return logits_3V.log_softmax(-1)


def two_distributions():
    return distributions()[:2]


def corrected(logprobs_V, reference_V, old_V):
    return kl_k3_corrected(logprobs_V, reference_V, log_ratio_BT=token_log_ratio(logprobs_V, old_V))


def simple(estimator):
    return lambda logprobs_V, reference_V, old_V: estimator(logprobs_V, reference_V)


ESTIMATORS = {
    "k1": simple(kl_k1),
    "k2": simple(kl_k2),
    "k3": simple(kl_k3),
    "k3_corrected": corrected,
    "k3_straight": simple(kl_k3_straight),
}
VALUES = {
    "k1": lambda p, r, o: p - r,
    "k2": lambda p, r, o: (p - r) ** 2 / 2,
    "k3": lambda p, r, o: math.exp(r - p) - (r - p) - 1,
    "k3_corrected": lambda p, r, o: math.exp(p - o) * (math.exp(r - p) - (r - p) - 1),
    "k3_straight": lambda p, r, o: math.exp(r - p) - (r - p) - 1,
}
# What a loss's gradient follows; the others' is that of their own value.
SLOPES = VALUES | {"k3_straight": VALUES["k2"]}


def kl(left_V, right_V):
    """KL(left || right), summed over the vocabulary."""
    return (left_V.exp() * (left_V - right_V)).sum()


def expected_gradient(name, sampler_V, logits_V, reference_V, old_V):
    """The mean, over tokens from the sampler, of an estimate's gradient with respect to the logits."""
    logprobs_V = logits_V.log_softmax(-1)
    estimates_V = ESTIMATORS[name](logprobs_V, reference_V, old_V)
    return torch.autograd.grad((sampler_V.exp() * estimates_V).sum(), logits_V)[0]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimate_equals_its_formula_and_its_gradient_the_finite_differences(name, central_differences):
    policy_V, reference_V, old_V = distributions()
    rows = list(zip(policy_V.tolist(), reference_V.tolist(), old_V.tolist(), strict=True))

    found_V = ESTIMATORS[name](policy_V.clone().requires_grad_(), reference_V, old_V)
    assert_close(found_V.detach(), torch.tensor([VALUES[name](*row) for row in rows], dtype=torch.float64))

    point_V = policy_V.clone().requires_grad_()
    weights_V = torch.linspace(-1, 1, 50, dtype=torch.float64)
    (gradient_V,) = torch.autograd.grad((weights_V * ESTIMATORS[name](point_V, reference_V, old_V)).sum(), point_V)

    def summed(values_V):
        slopes = [SLOPES[name](p, r, o) for p, (_, r, o) in zip(values_V.tolist(), rows, strict=True)]
        return float(np.dot(weights_V.numpy(), slopes))

    assert_close(gradient_V.numpy(), central_differences(summed, policy_V.numpy()), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["k1", "k3", "k3_straight"])
def test_the_mean_under_the_policy_is_the_kl_summed_over_the_vocabulary(name):
    policy_V, reference_V, old_V = distributions()

    assert float(kl(policy_V, reference_V)) > 0.5
    assert_close((policy_V.exp() * ESTIMATORS[name](policy_V, reference_V, old_V)).sum(), kl(policy_V, reference_V))


def test_the_corrected_mean_under_an_older_policy_is_the_kl_too():
    policy_V, reference_V, old_V = distributions()
    exact = kl(policy_V, reference_V)

    assert_close((old_V.exp() * corrected(policy_V, reference_V, old_V)).sum(), exact)
    assert abs(float((old_V.exp() * kl_k3(policy_V, reference_V)).sum() / exact) - 1) > 0.01


@pytest.mark.parametrize("name", ["k2", "k3_corrected", "k3_straight"])
def test_on_policy_the_mean_gradient_is_that_of_the_kl(name):
    policy_V, reference_V, _ = distributions()
    logits_V = policy_V.clone().requires_grad_()
    (exact_V,) = torch.autograd.grad(kl(logits_V.log_softmax(-1), reference_V), logits_V)

    found_V = expected_gradient(name, policy_V, logits_V, reference_V, policy_V)

    assert float(exact_V.abs().max()) > 0.05
    assert_close(found_V, exact_V, rtol=1e-9, atol=1e-12)


def test_on_policy_the_mean_gradient_of_k3_is_that_of_the_kl_the_other_way_round():
    policy_V, reference_V, _ = distributions()
    logits_V = policy_V.clone().requires_grad_()
    (exact_V,) = torch.autograd.grad(kl(reference_V, logits_V.log_softmax(-1)), logits_V)
    assert_close(expected_gradient("k3", policy_V, logits_V, reference_V, policy_V), exact_V, rtol=1e-9, atol=1e-12)


def test_on_policy_the_mean_gradient_of_k1_is_nothing():
    policy_V, reference_V, _ = distributions()
    logits_V = policy_V.clone().requires_grad_()
    assert expected_gradient("k1", policy_V, logits_V, reference_V, policy_V).abs().max() < 1e-15


def test_off_policy_the_corrected_mean_gradient_alone_is_that_of_the_kl():
    policy_V, reference_V, old_V = distributions()
    logits_V = policy_V.clone().requires_grad_()
    (exact_V,) = torch.autograd.grad(kl(logits_V.log_softmax(-1), reference_V), logits_V)
    errors = {
        name: float((expected_gradient(name, old_V, logits_V, reference_V, old_V) - exact_V).abs().max())
        for name in ESTIMATORS
    }
    assert errors.pop("k3_corrected") < 1e-12
    assert min(errors.values()) > 1e-3


def test_k1_in_the_reward_has_the_gradient_of_the_kl():
    policy_V, reference_V, _ = distributions()
    logits_V = policy_V.clone().requires_grad_()
    logprobs_V = logits_V.log_softmax(-1)
    (exact_V,) = torch.autograd.grad(kl(logprobs_V, reference_V), logits_V, retain_graph=True)

    surrogate = (policy_V.exp() * kl_k1(policy_V, reference_V) * logprobs_V).sum()

    assert_close(torch.autograd.grad(surrogate, logits_V)[0], exact_V, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("estimator", [kl_k2, kl_k3, kl_k3_straight])
def test_it_is_never_negative_and_0_only_where_both_agree(estimator):
    policy_V, reference_V = two_distributions()
    reference_V[:5] = policy_V[:5]

    kl_V = estimator(policy_V, reference_V)

    assert kl_V[:5].tolist() == [0.0] * 5
    assert float(kl_V[5:].min()) > 0


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimates_and_gradients_stay_finite_however_far_apart_the_two_are(name):
    logprobs_N = torch.tensor([0.0, -1e3, -30.0, -1e3], requires_grad=True)
    reference_N, old_N = torch.tensor([-1e3, 0.0, 0.0, -1.0]), torch.tensor([-1e3, 0.0, 0.0, -1e3])

    kl_N = ESTIMATORS[name](logprobs_N, reference_N, old_N)
    (gradient_N,) = torch.autograd.grad((kl_N**2).sum(), logprobs_N)

    assert kl_N.isfinite().all() and gradient_N.isfinite().all()


def test_k3_is_held_where_the_log_ratio_is_20():
    bound = math.exp(MAX_LOG_RATIO) - MAX_LOG_RATIO - 1
    found_N = kl_k3(torch.tensor([0.0, -1e4, -30.0, -1e30]), torch.tensor([-1e4, 0.0, 0.0, 0.0]))
    assert_close(found_N, torch.tensor([MAX_LOG_RATIO - 1, bound, bound, bound]))


@pytest.mark.parametrize("name", ["k2", "k3", "k3_corrected", "k3_straight"])
def test_the_kl_term_moves_a_policy_to_the_reference_from_sampled_tokens_alone(name):
    policy_V, reference_V, _ = distributions(vocab_size=6)
    generator = torch.Generator().manual_seed(0)
    distances = {}
    for kl_coef in (0.0, 1.0):
        logits_V = policy_V.clone().requires_grad_()
        for _ in range(150):
            old_V = logits_V.detach().log_softmax(-1)
            tokens_N = torch.multinomial(old_V.exp(), 256, replacement=True, generator=generator)
            estimate = partial(ESTIMATORS[name], reference_V=reference_V[tokens_N], old_V=old_V[tokens_N])
            logprobs_N = logits_V.log_softmax(-1)[tokens_N]
            loss = weighted_loss(
                0 * logprobs_N[None],
                token_weights_BT=torch.full((1, 256), 1 / 256),
                kl_BT=estimate(logprobs_N)[None],
                kl_coef=kl_coef,
            )
            logits_V = (logits_V - 0.3 * torch.autograd.grad(loss, logits_V)[0]).detach().requires_grad_()
        distances[kl_coef] = float(kl(logits_V.detach().log_softmax(-1), reference_V))
    assert distances[0.0] == pytest.approx(float(kl(policy_V, reference_V)))
    assert distances[1.0] < 0.1 * distances[0.0]
