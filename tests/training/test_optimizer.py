"""The optimizer against AdamW in float64 NumPy, its schedule's closed form, and going on from saved state."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from r1kit.config.objective import OptimizerSettings
from r1kit.training.optimizer import Optimizer


def set_random_gradients(policy, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in policy.model.parameters():
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)


def weights_of(policy):
    return [parameter.detach().clone() for parameter in policy.model.parameters()]


def expected_learning_rate(settings, step, total_steps):
    warmup = min(1, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1
    if settings.schedule == "constant":
        return settings.lr * warmup
    floor = settings.min_lr_ratio
    return settings.lr * warmup * (floor + (1 - floor) * (1 + math.cos(math.pi * min(1, step / total_steps))) / 2)


def numpy_adamw(weights, gradients_of_steps, settings, total_steps):
    """AdamW (arXiv:1711.05101, algorithm 2) on a gradient clipped to a global norm; weights after all steps."""
    weights = [w.double().numpy().copy() for w in weights]
    first, second = [[np.zeros_like(w) for w in weights] for _ in range(2)]
    for step, gradients in enumerate(gradients_of_steps):
        gradients = [g.double().numpy() for g in gradients]
        norm = math.sqrt(sum((g**2).sum() for g in gradients))
        lr = expected_learning_rate(settings, step, total_steps)
        for i, gradient in enumerate(gradients):
            gradient = gradient * min(1, settings.max_grad_norm / norm)
            first[i] = settings.beta1 * first[i] + (1 - settings.beta1) * gradient
            second[i] = settings.beta2 * second[i] + (1 - settings.beta2) * gradient**2
            mean = first[i] / (1 - settings.beta1 ** (step + 1))
            variance = second[i] / (1 - settings.beta2 ** (step + 1))
            weights[i] *= 1 - lr * settings.weight_decay
            weights[i] -= lr * mean / (np.sqrt(variance) + settings.eps)
    return weights


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_adamw_takes_the_steps_of_a_float64_adamw(make_policy, schedule):
    policy = make_policy("llama")
    settings = OptimizerSettings(
        lr=0.01, weight_decay=0.1, eps=1e-6, max_grad_norm=200.0, warmup_steps=2, schedule=schedule
    )
    optimizer = Optimizer(policy, settings, total_steps=6)
    start, gradients_of_steps, norms = weights_of(policy), [], []

    for step in range(5):
        set_random_gradients(policy, step, scale=[1.0, 0.1, 3.0, 0.01, 1.0][step])  # the clip binds on some
        gradients_of_steps.append([p.grad.clone() for p in policy.model.parameters()])
        norms.append(optimizer.step())

    expected = numpy_adamw(start, gradients_of_steps, settings, total_steps=6)
    for found, weights in zip(weights_of(policy), expected, strict=True):
        assert_close(found.double().numpy(), weights, rtol=0, atol=2e-6)
    exact = [math.sqrt(sum(float((g.double() ** 2).sum()) for g in gradients)) for gradients in gradients_of_steps]
    assert norms == pytest.approx(exact, rel=1e-5)
    assert min(norms) < 200 < max(norms)


def test_a_step_forgets_the_gradient_and_counts_itself(make_policy):
    policy = make_policy("llama")
    optimizer = Optimizer(policy, OptimizerSettings(), total_steps=6)
    set_random_gradients(policy, 0)

    optimizer.step()

    assert optimizer.steps_done == 1
    assert all(parameter.grad is None for parameter in policy.model.parameters())


def test_the_learning_rate_rises_linearly_then_falls_as_a_cosine_to_its_floor(make_policy):
    settings = OptimizerSettings(lr=1.0, warmup_steps=4, schedule="cosine", min_lr_ratio=0.1)
    optimizer = Optimizer(make_policy("llama"), settings, total_steps=100)

    rates = []
    for optimizer.steps_done in range(121):
        rates.append(optimizer.learning_rate)

    assert rates == pytest.approx([expected_learning_rate(settings, step, 100) for step in range(121)])
    assert rates[:3] == pytest.approx([0.25, 0.5, 0.75], rel=2e-3)
    assert rates[50] == pytest.approx(0.55)
    assert rates[100] == rates[120] == pytest.approx(0.1)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_going_on_from_saved_state_is_the_same_to_the_bit_as_never_having_stopped(make_policy, kind):
    settings = OptimizerSettings(kind=kind, lr=0.01, weight_decay=0.1, warmup_steps=3, schedule="cosine")
    policy, resumed = make_policy("llama"), make_policy("llama", seed=1)
    optimizer = Optimizer(policy, settings, total_steps=6)
    for step in range(2):
        set_random_gradients(policy, step)
        optimizer.step()

    # As a checkpoint does: copies of weights and state, into a fresh optimizer over other weights.
    resumed.load_weights(policy)
    state = {name: tensor.clone() for name, tensor in optimizer.state_tensors().items()}
    other = Optimizer(resumed, settings, total_steps=6)
    other.load_state(state, steps_done=2)
    for step in range(2, 5):
        for one, its in [(policy, optimizer), (resumed, other)]:
            set_random_gradients(one, step)
            its.step()

    assert all(torch.equal(*pair) for pair in zip(weights_of(policy), weights_of(resumed), strict=True))
    assert other.state_tensors().keys() == optimizer.state_tensors().keys()
    assert other.learning_rate == optimizer.learning_rate


def test_a_fresh_optimizer_without_state_goes_on_otherwise(make_policy):
    policy, restarted = make_policy("llama"), make_policy("llama")
    optimizers = [Optimizer(one, OptimizerSettings(lr=0.01), total_steps=6) for one in (policy, restarted)]
    for step in range(2):
        set_random_gradients(policy, step)
        optimizers[0].step()
    restarted.load_weights(policy)

    for one, optimizer in zip([policy, restarted], optimizers, strict=True):
        set_random_gradients(one, 2)
        optimizer.step()

    assert not any(torch.equal(*pair) for pair in zip(weights_of(policy), weights_of(restarted), strict=True))


def test_muon_turns_the_matrices_inside_the_network_and_adamw_the_rest(make_policy):
    policy = make_policy("llama")
    start = weights_of(policy)
    optimizer = Optimizer(policy, OptimizerSettings(kind="muon", lr=0.01, max_grad_norm=1e9), total_steps=6)
    set_random_gradients(policy, 0)

    optimizer.step()

    for (name, after), before in zip(policy.model.named_parameters(), start, strict=True):
        move = (after.detach() - before) / 0.01
        if move.ndim == 2 and "embed" not in name and "lm_head" not in name:
            # An orthogonal matrix, scaled to the step that AdamW would take (arXiv:2502.16982): 0.2 sqrt(longer side).
            singular = torch.linalg.svdvals(move) / (0.2 * math.sqrt(max(move.shape)))
            assert float(singular.quantile(0.05)) > 0.6 and float(singular.max()) < 1.3, name
        else:
            # The first step of AdamW is the sign of the gradient.
            assert_close(move.abs(), torch.ones_like(move), rtol=1e-3, atol=1e-3)
