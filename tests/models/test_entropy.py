"""The entropy's gradient: right wherever it is asked for, and no memory or time where it is not.

N: positions   V: vocabulary
"""

import pytest
import torch
from torch.testing import assert_close

from r1kit.models import policy as policy_module
from r1kit.models.policy import Entropy


def logits(num_positions=5, vocab_size=7):
    return 3 * torch.randn(num_positions, vocab_size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_its_gradient_equals_finite_differences():
    point_NV = logits().requires_grad_()
    assert torch.autograd.gradcheck(lambda z_NV: Entropy.apply(z_NV, z_NV.detach().logsumexp(-1)), point_NV)


def test_an_even_distribution_has_the_logarithm_of_its_size_and_no_gradient():
    point_NV = torch.zeros(2, 8, dtype=torch.float64, requires_grad=True)
    entropy_N = Entropy.apply(point_NV, point_NV.detach().logsumexp(-1))
    assert_close(entropy_N.detach(), torch.full((2,), 8.0, dtype=torch.float64).log())
    assert torch.autograd.grad(entropy_N.sum(), point_NV)[0].abs().max() < 1e-15


@pytest.mark.parametrize("recomputed", [False, True])
def test_through_the_policy_it_is_the_gradient_of_the_whole_models_entropy(make_policy, monkeypatch, recomputed):
    if recomputed:
        monkeypatch.setattr(policy_module, "RECOMPUTED_ABOVE", 0)
    policy = make_policy("llama")
    token_ids_BT = torch.randint(2, 400, (3, 9), generator=torch.Generator().manual_seed(0))
    mask_BT = torch.ones(3, 9, dtype=torch.bool)
    mask_BT[:, :3] = mask_BT[1, 5:] = False
    weights = list(policy.model.parameters())

    found_BT = policy.token_stats(token_ids_BT, mask_BT, temperature=0.8).live_entropy_BT
    found = torch.autograd.grad(found_BT.sum(), weights, allow_unused=True)

    logprobs_BTV = (policy.model(input_ids=token_ids_BT).logits / 0.8).log_softmax(-1)
    entropy_BT = -(logprobs_BTV.exp() * logprobs_BTV).sum(-1)[:, :-1]
    expected = torch.autograd.grad((entropy_BT * mask_BT[:, 1:]).sum(), weights, allow_unused=True)
    assert_close(found_BT[:, 1:].detach(), entropy_BT.detach() * mask_BT[:, 1:], rtol=1e-4, atol=1e-5)
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.allclose(one, other, rtol=1e-3, atol=1e-5 * float(other.abs().max()) + 1e-8)


def test_what_is_watched_is_detached(make_policy):
    policy = make_policy("llama")
    stats = policy.token_stats(torch.tensor([[5, 6, 7]]), torch.tensor([[False, True, True]]), temperature=1.0)
    assert not stats.entropy_BT.requires_grad and stats.live_entropy_BT.requires_grad
    assert torch.equal(stats.entropy_BT, stats.live_entropy_BT)


def test_a_gradient_that_nobody_asks_for_keeps_nothing_more_than_the_logprobs_do(make_policy):
    policy, kept = make_policy("llama"), {}
    token_ids_BT, mask_BT = torch.randint(2, 400, (2, 30)), torch.ones(2, 30, dtype=torch.bool)
    mask_BT[:, 0] = False

    def remember(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        policy.token_stats(token_ids_BT, mask_BT, temperature=1.0)
    full = 58 * policy.vocab_size  # all positions but the first of each row, times the vocabulary
    assert sum(size == full for size in kept.values()) == 1  # the logits, once
