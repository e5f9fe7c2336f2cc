"""PPO: what its advantages, values and KL are, token by token; what trains; and that it resumes to the same bits.

B: completions   T: token positions
"""

import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from r1kit.errors import Interrupted, ModelError, RecipeError
from r1kit.recipe import dump_recipe, load_recipe, parse_recipe
from r1kit.run import Run
from r1kit.stages import grpo, ppo
from r1kit.stages.preparation import make_trainee
from r1kit.tasks import sample_problems
from r1kit.training.batch import collate_rollouts, shuffled_split

PPO = {"kind": "gae", "value": {"lr": 1e-3}}
NANO = Path(__file__).parents[2] / "recipes" / "nano" / "ppo.toml"


@pytest.fixture
def recipe(tiny):
    """A function from advantage settings, and changed sections, to a tiny PPO recipe."""

    def make(advantage=None, **sections):
        return tiny(advantage=PPO | (advantage or {}), **sections)

    return make


def groups_for(recipe, trainee, num_problems=3):
    problems = sample_problems(recipe.tasks, num_problems, seed="ppo", split="train")
    return trainee.sampler.groups(problems, 4, seed="ppo")


def batch_of(groups):
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    return collate_rollouts(rollouts, torch.zeros(len(rollouts))), torch.tensor([r.score.total for r in rollouts])


def random_head(trainee):
    torch.manual_seed(0)
    torch.nn.init.normal_(trainee.critic.scalar.head.weight, std=0.3)


def changed_reference(trainee):
    """A reference that differs from the policy."""
    with torch.no_grad():
        for weights in trainee.reference.model.parameters():
            weights.add_(0.02 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(1)))


def test_with_lambda_1_and_a_new_value_model_every_token_has_the_reward_of_its_completion(recipe):
    made = recipe({"whiten": False})
    trainee = make_trainee(made)
    batch, rewards_B = batch_of(groups_for(made, trainee))
    found, figures = ppo.estimated(made, trainee, batch, rewards_B)
    expected_BT = rewards_B[:, None] * batch.completion_mask_BT
    assert torch.equal(found.advantages_BT, expected_BT)
    assert torch.equal(found.returns_BT, expected_BT)
    assert not found.values_BT.any()
    assert_close(found.advantages_B, rewards_B)
    assert figures["value"] == 0.0


@pytest.mark.parametrize(("lam", "gamma"), [(1.0, 1.0), (0.95, 1.0), (0.9, 0.99)])
def test_advantages_are_those_of_a_float64_reference(recipe, lam, gamma):
    made = recipe(
        {"lambda": lam, "gamma": gamma, "whiten": False},
        objective={"kl_coef": 0.1, "kl_place": "reward", "kl_estimator": "k1"},
    )
    trainee = make_trainee(made)
    random_head(trainee)
    changed_reference(trainee)
    batch, rewards_B = batch_of(groups_for(made, trainee))
    found, figures = ppo.estimated(made, trainee, batch, rewards_B)

    kls = []
    for row, reward in enumerate(rewards_B.tolist()):
        ids = batch.token_ids_BT[row]
        places = batch.completion_mask_BT[row].nonzero()[:, 0]
        with torch.no_grad():
            hidden_TD = trainee.critic.scalar.backbone(ids[None]).last_hidden_state[0]
            values = trainee.critic.scalar.head(hidden_TD)[places - 1, 0].double().numpy()
            logprobs = [
                model.model(ids[None]).logits[0].double().log_softmax(-1)[places - 1, ids[places]].numpy()
                for model in (trainee.policy, trainee.reference)
            ]
        rewards = -0.1 * (logprobs[0] - logprobs[1])
        kls += (logprobs[0] - logprobs[1]).tolist()
        rewards[-1] += reward
        deltas = rewards + gamma * np.append(values[1:], 0.0) - values
        advantages = [
            sum((gamma * lam) ** step * delta for step, delta in enumerate(deltas[start:]))
            for start in range(len(deltas))
        ]
        assert_close(found.advantages_BT[row, places].double().numpy(), np.array(advantages), rtol=1e-3, atol=1e-4)
        assert_close(found.values_BT[row, places].double().numpy(), values, rtol=1e-3, atol=1e-4)
    assert figures["kl"] == pytest.approx(np.mean(kls), rel=1e-3, abs=1e-5)
    assert abs(figures["kl"]) > 1e-3
    assert found.reference_logprobs_BT is None  # it is in the reward, and not in the loss too


def test_advantages_are_whitened_over_all_tokens(recipe):
    made = recipe()
    trainee = make_trainee(made)
    random_head(trainee)
    batch, rewards_B = batch_of(groups_for(made, trainee))
    found, _ = ppo.estimated(made, trainee, batch, rewards_B)
    values_N = found.advantages_BT[batch.completion_mask_BT]
    assert values_N.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert values_N.std(correction=0).item() == pytest.approx(1.0, rel=1e-5)


class Catcher:
    """Takes the place of an optimizer: keeps the gradients, changes nothing."""

    def __init__(self, model):
        self.model, self.steps_done, self.gradients = model, 0, []

    def step(self):
        self.gradients.append([None if w.grad is None else w.grad.clone() for w in self.model.parameters()])
        self.model.zero_grad()
        self.steps_done += 1
        return 1.0


def test_one_advantage_for_all_tokens_gives_the_gradient_of_grpo(recipe):
    made = recipe({"whiten": False})
    trainee = make_trainee(made)
    trainee = replace(trainee, optimizer=Catcher(trainee.policy.model))
    groups = groups_for(made, trainee)
    batch, rewards_B = batch_of(groups)
    estimated, _ = ppo.estimated(made, trainee, batch, rewards_B)
    (part,) = ppo.minibatches(made, trainee, estimated, seed="0")
    by_token = grpo.update(made, trainee, part)
    (rows,) = shuffled_split(len(batch), 1, seed="0")
    plain = replace(batch, advantages_B=rewards_B).select(rows).with_token_weights(part.token_weights_BT)
    by_completion = grpo.update(made, trainee, plain)
    assert by_token.loss == pytest.approx(by_completion.loss, rel=1e-6)
    for left, right in zip(*trainee.optimizer.gradients, strict=True):
        assert_close(left, right, rtol=1e-5, atol=1e-8)


def test_the_cut_into_microbatches_changes_no_gradient_of_the_values(recipe):
    made = recipe()
    trainee = make_trainee(made)
    random_head(trainee)
    critic = replace(trainee.critic, optimizer=Catcher(trainee.critic.scalar.model))
    trainee = replace(trainee, critic=critic)
    batch, rewards_B = batch_of(groups_for(made, trainee))
    estimated, _ = ppo.estimated(made, trainee, batch, rewards_B)
    (part,) = ppo.minibatches(made, trainee, estimated, seed="0")
    whole = ppo.value_update(made, trainee, part)
    small = made.model_copy(update={"run": made.run.model_copy(update={"max_tokens_per_microbatch": 64})})
    cut = ppo.value_update(small, trainee, part)
    assert whole["value_loss"] == pytest.approx(cut["value_loss"], rel=1e-5)
    # Old values are the new ones here: half the mean squared error over all tokens.
    mask_BT = part.completion_mask_BT
    error = (part.values_BT - part.returns_BT)[mask_BT]
    assert whole["value_loss"] == pytest.approx(0.5 * float((error**2).mean()), rel=1e-4)
    for left, right in zip(*critic.optimizer.gradients, strict=True):
        if left is not None:
            assert_close(left, right, rtol=1e-3, atol=1e-5)


def test_groups_of_equal_rewards_train_too(recipe):
    made = recipe(rewards={"accuracy": 1.0, "random": 0.0, "format": 0.0})  # the untrained model is never right
    trainee = make_trainee(made)
    random_head(trainee)
    before = {name: tensor.clone() for name, tensor in trainee.policy.model.state_dict().items()}
    learnt = ppo.learn_by_values(made, trainee, groups_for(made, trainee), seed="0")
    assert len(learnt.updates) == 1
    assert any(not torch.equal(before[name], tensor) for name, tensor in trainee.policy.model.state_dict().items())


def test_the_policy_waits_until_the_values_are_warm(recipe):
    made = recipe({"value": {"lr": 1e-3, "warmup_steps": 2}})
    trainee = make_trainee(made)
    groups = groups_for(made, trainee)
    policies, heads = [], []
    for iteration in range(3):
        ppo.learn_by_values(made, trainee, groups, seed=str(iteration))
        policies.append(trainee.policy.head.weight.detach().clone())
        heads.append(trainee.critic.scalar.head.weight.detach().clone())
    assert torch.equal(policies[0], policies[1]) and not torch.equal(policies[1], policies[2])
    assert not torch.equal(heads[0], heads[1])
    assert trainee.optimizer.steps_done == trainee.critic.optimizer.steps_done == 3


def test_the_value_model_may_read_an_iteration_several_times(recipe):
    made = recipe({"value": {"lr": 1e-3, "num_epochs": 3}}, rollouts={"steps_per_iteration": 2})
    trainee = make_trainee(made)
    learnt = ppo.learn_by_values(made, trainee, groups_for(made, trainee), seed="0")
    assert (len(learnt.updates), trainee.optimizer.steps_done, trainee.critic.optimizer.steps_done) == (2, 2, 6)


VARIANTS = {
    "plain": {},
    "two steps and a KL in the reward": {
        "rollouts": {"steps_per_iteration": 2},
        "objective": {"kl_coef": 0.01, "kl_place": "reward", "kl_estimator": "k1", "reference_refresh_steps": 3},
    },
    "a KL in the loss": {"objective": {"kl_coef": 0.01}},
    "warming up": {"advantage": {"value": {"lr": 1e-3, "warmup_steps": 3, "num_epochs": 2}}},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_interrupted_run_ends_in_the_same_bits(recipe, run_to_the_end, outcome, tmp_path, monkeypatch, variant):
    sections = dict(VARIANTS[variant])
    made = recipe(sections.pop("advantage", None), **sections)
    alone = outcome(run_to_the_end(made, tmp_path / "alone"))
    original, calls = Run.log_metrics, []

    def interrupted(self, row):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        original(self, row)

    with monkeypatch.context() as patched:
        patched.setattr(Run, "log_metrics", interrupted)
        with pytest.raises(Interrupted):
            run_to_the_end(made, tmp_path / "run")
    resumed = outcome(run_to_the_end(made, tmp_path / "run", resume=True))
    assert resumed == alone
    rows = [row for row in resumed["metrics"] if "reward" in row]
    assert all({"value_loss", "explained_variance", "value_grad_norm"} <= row.keys() for row in rows)


def test_a_value_model_of_another_tokenizer_is_refused(recipe, tokenizer, model_folder, tmp_path):
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(model_folder).save_pretrained(tmp_path / "other")
    tokenizer.train_new_from_iterator(["other words than before " * 9], 420).save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError, match="has another tokenizer"):
        make_trainee(recipe({"value": {"path": str(tmp_path / "other")}}))


def test_lambda_is_written_as_the_paper_writes_it():
    made = load_recipe(NANO, ["advantage.lambda=0.95"])
    assert (made.advantage.lam, made.advantage.gamma) == (0.95, 1.0)
    dumped = dump_recipe(made)
    assert dumped["advantage"]["lambda"] == 0.95
    assert parse_recipe(json.loads(json.dumps(dumped)), source="dumped") == made
    with pytest.raises(RecipeError, match="did you mean 'lambda'"):
        load_recipe(NANO, ["advantage.lamda=0.95"])


@pytest.mark.parametrize(
    "objective",
    [{"kind": "gspo"}, {"kind": "cispo"}, {"kind": "grpo", "ratio": "sequence"}, {"off_policy_delta": 0.1}],
)
def test_objectives_that_are_not_ppos_are_refused(recipe, objective):
    with pytest.raises(RecipeError, match="PPO's clipped surrogate"):
        recipe(objective=objective)


@pytest.mark.slow
def test_ppo_learns_on_the_nano_model(run_to_the_end, tmp_path):
    made = load_recipe(
        NANO,
        ["rollouts.num_iterations=20", "optimizer.schedule=constant", "evaluation.harder=[]", "run.num_threads=1"],
    )
    folder = run_to_the_end(made, tmp_path / "run")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    tests = [row["held_out"]["pass_at_1"] for row in rows if "held_out" in row]
    assert tests[-1] > tests[0] + 0.25  # seen: 0.20 -> 0.71
    assert rows[-2]["explained_variance"] > 0.1
