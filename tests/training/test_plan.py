"""The plan of a step's memory: microbatches that fit, long rows with their layers made again."""

from dataclasses import replace

import pytest
import torch

from r1kit.config.objective import OptimizerSettings
from r1kit.training import memory
from r1kit.training.batch import collate_tokens
from r1kit.training.memory import activations_per_token, forecast_bytes, recomputes_layers, tokens_within_budget
from r1kit.training.optimizer import Optimizer
from r1kit.training.step import optimizer_step


def likelihood(stats, batch):
    return -(stats.logprobs_BT * batch.token_weights_BT).sum(), {}


def trained(policy, *, max_tokens=2048):
    """The weights after one step on rows of unequal lengths, and how many of its microbatches kept only inputs."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(2, 400, (n,), generator=generator).tolist() for n in (60, 12, 33, 9)]
    batch = collate_tokens([row[:3] for row in rows], [row[3:] for row in rows])
    batch = replace(batch, token_weights_BT=batch.completion_mask_BT / batch.completion_mask_BT.sum())
    asked = []
    token_stats = policy.token_stats

    def watched(*args, **options):
        asked.append(options["recomputes_layers"])
        return token_stats(*args, **options)

    policy.token_stats = watched
    optimizer = Optimizer(policy, OptimizerSettings(lr=1e-3, warmup_steps=0), total_steps=1)
    update = optimizer_step(policy, optimizer, batch, likelihood, temperature=1.0, max_tokens_per_microbatch=max_tokens)
    return update, asked


def test_microbatches_shrink_to_the_memory_and_long_rows_are_made_again_without_changing_the_step(
    make_policy, monkeypatch
):
    update, asked = trained(make_policy("llama"))
    assert asked == [0]

    policy = make_policy("llama")
    per_token = activations_per_token(policy)
    monkeypatch.setitem(memory.ACTIVATION_BYTES, "cpu", 40 * per_token)
    monkeypatch.setitem(memory.LONG_ROW_BYTES, "cpu", 50 * per_token)
    planned, asked = trained(policy)

    assert 0 < asked[0] <= policy.model.config.num_hidden_layers
    assert asked[1:] in ([0], [0, 0])
    assert planned.loss == pytest.approx(update.loss, rel=1e-5)
    assert planned.grad_norm == pytest.approx(update.grad_norm, rel=1e-5)


def test_the_recipes_limit_holds_where_it_is_the_smaller(make_policy):
    policy = make_policy("llama")
    assert tokens_within_budget(policy, 64) == 64
    assert tokens_within_budget(policy, 10**9) == memory.ACTIVATION_BYTES["cpu"] // activations_per_token(policy)
    assert not recomputes_layers(policy, 512)


@pytest.mark.parametrize("architecture", ["llama", "deepseek_v3"])
def test_what_a_token_needs_is_what_the_backward_pass_keeps(make_policy, architecture):
    policy = make_policy(architecture)
    token_ids_BT = torch.randint(2, 400, (1, 400), generator=torch.Generator().manual_seed(0))
    mask_BT = (torch.arange(400) > 0)[None]
    kept = {}

    def remember(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    policy.network.hidden_states(token_ids_BT[:, :9], mask_BT[:, :9])
    weights = {parameter.untyped_storage().data_ptr() for parameter in policy.model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        policy.network.hidden_states(token_ids_BT, mask_BT)
    measured = sum(size for pointer, size in kept.items() if pointer not in weights) / 400

    # The rule of thumb for layers that autograd handles may be off by half; those by hand are counted.
    assert activations_per_token(policy) == pytest.approx(measured, rel=0.15 if architecture == "llama" else 0.5)


def test_the_forecast_grows_with_what_is_held(make_policy):
    policy = make_policy("llama")
    shape = {"max_sequences": 8, "positions": 128, "tokens_per_microbatch": 1024}
    plain = forecast_bytes(policy, **shape, has_reference=False)
    assert forecast_bytes(policy, **shape, has_reference=True) - plain == 4 * policy.num_parameters()
    assert forecast_bytes(policy, **(shape | {"max_sequences": 4000}), has_reference=False) > plain + 10**8
