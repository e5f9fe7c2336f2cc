"""The k3 estimator: closed forms, and a float64 reference written from the formula.

V: vocabulary
"""

import math

import torch
from torch.testing import assert_close

from r1kit.objectives.kl import MAX_LOG_RATIO, kl_k3


def two_distributions(vocab_size=50):
    generator = torch.Generator().manual_seed(0)
    logits_2V = 2 * torch.randn(2, vocab_size, generator=generator, dtype=torch.float64)
    return logits_2V.log_softmax(-1)


def test_k3_equals_the_formula():
    policy_V, reference_V = two_distributions()
    expected = [
        math.exp(reference - policy) - (reference - policy) - 1
        for policy, reference in zip(policy_V.tolist(), reference_V.tolist(), strict=True)
    ]

    assert_close(kl_k3(policy_V, reference_V), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


def test_expected_k3_under_the_policy_is_the_kl_summed_over_the_vocabulary():
    policy_V, reference_V = two_distributions()
    kl = sum(math.exp(p) * (p - r) for p, r in zip(policy_V.tolist(), reference_V.tolist(), strict=True))

    assert kl > 0.5
    assert math.isclose(float((policy_V.exp() * kl_k3(policy_V, reference_V)).sum()), kl, rel_tol=1e-12)


def test_k3_is_never_negative_and_0_only_where_both_agree():
    policy_V, reference_V = two_distributions()
    reference_V[:5] = policy_V[:5]

    kl_V = kl_k3(policy_V, reference_V)

    assert kl_V[:5].tolist() == [0.0] * 5
    assert float(kl_V[5:].min()) > 0


def test_the_gradient_of_k3_equals_finite_differences():
    policy_V, reference_V = two_distributions()

    assert torch.autograd.gradcheck(lambda logprobs_V: kl_k3(logprobs_V, reference_V), policy_V.requires_grad_())


def test_k3_and_its_gradient_stay_finite_however_far_apart_the_two_are():
    logprobs_N = torch.tensor([0.0, -1e4, -30.0, -1e30], requires_grad=True)
    reference_N = torch.tensor([-1e4, 0.0, 0.0, 0.0])

    kl_N = kl_k3(logprobs_N, reference_N)
    (gradient_N,) = torch.autograd.grad((kl_N**2).sum(), logprobs_N)

    bound = math.exp(MAX_LOG_RATIO) - MAX_LOG_RATIO - 1
    assert_close(kl_N.detach(), torch.tensor([MAX_LOG_RATIO - 1, bound, bound, bound]))
    assert gradient_N.isfinite().all()
