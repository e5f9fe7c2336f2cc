"""PPO in the place of GRPO: the same loop, the same step, but a value model says how good each token was.

The paper's ablation (arXiv:2501.12948v2, supplement A.3): with lambda 0.95 it falls behind GRPO, with 1 it comes near.

B: completions   T: token positions   P: problems   G: completions a problem
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import cast

import torch
from torch import Tensor

from r1kit.config.objective import GAEAdvantage
from r1kit.models.policy import Policy
from r1kit.models.reward import refuse_other_tokenizer
from r1kit.models.scalar import load_scalar
from r1kit.objectives.gae import gae, token_rewards, whitened
from r1kit.objectives.kl import kl_k1
from r1kit.objectives.token_weights import token_mean
from r1kit.objectives.value_loss import clipped_values, explained_variance, value_loss
from r1kit.recipe import ZeroRecipe
from r1kit.stages.grpo import Learnt, Trainee, logprobs_of, refresh_reference, trains, update
from r1kit.stages.objective import token_weigher
from r1kit.training.batch import Batch, collate_rollouts, shuffled_split
from r1kit.training.critic import Critic
from r1kit.training.memory import return_free_memory, tokens_within_budget
from r1kit.training.optimizer import Optimizer
from r1kit.training.scalar_step import ScalarRows, scalar_step, values_of
from r1kit.training.step import Update
from r1kit.types import Group


def make_critic(recipe: ZeroRecipe, policy: Policy) -> Critic | None:
    """The value model of a recipe that wants one, with a head of zeros: its first values are exactly 0.

    Raises ModelError for one whose tokenizer is not the policy's: it reads the policy's token ids.
    """
    if not isinstance(recipe.advantage, GAEAdvantage):
        return None
    settings = recipe.advantage.value
    base = recipe.model if settings.path is None else recipe.model.model_copy(update={"path": settings.path})
    scalar = load_scalar(base, trains=True, is_new=True)
    refuse_other_tokenizer(policy.tokenizer, scalar.tokenizer, what=f"the value model ({base.path})")
    steps = recipe.rollouts.num_iterations * recipe.rollouts.steps_per_iteration * settings.num_epochs
    return Critic(scalar, Optimizer(scalar, recipe.optimizer.model_copy(update={"lr": settings.lr}), total_steps=steps))


def learn_by_values(recipe: ZeroRecipe, trainee: Trainee, groups: list[Group], *, seed: str) -> Learnt:
    """One iteration's updates of policy and value model, from its groups; the values are those before any update.

    Unlike GRPO, groups whose rewards are all equal train too: a completion is compared with what was expected of it.
    """
    settings = cast(GAEAdvantage, recipe.advantage)
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    trained = [row for row, rollout in enumerate(rollouts) if trains(recipe, rollout)]
    advantages_PG = torch.zeros(len(groups), recipe.rollouts.group_size)
    if not trained:
        return Learnt(advantages_PG, [], {})
    batch = collate_rollouts([rollouts[row] for row in trained], torch.zeros(len(trained)))
    rewards_B = torch.tensor([rollouts[row].score.total for row in trained])
    batch, figures = estimated(recipe, trainee, batch, rewards_B)
    advantages_PG.view(-1)[torch.tensor(trained)] = batch.advantages_B
    updates, value_updates = [], []
    is_warm = trainee.critic_of().optimizer.steps_done >= settings.value.warmup_steps
    for part in minibatches(recipe, trainee, batch, seed=seed):
        if is_warm:
            updates.append(update(recipe, trainee, part))
        else:
            # The policy waits, but the step is counted: schedules and checkpoints go by the number of steps.
            trainee.optimizer.steps_done += 1
        value_updates.append(value_update(recipe, trainee, part))
        refresh_reference(recipe, trainee)
        return_free_memory()
    for epoch in range(1, settings.value.num_epochs):
        for part in minibatches(recipe, trainee, batch, seed=f"{seed}/value-epoch-{epoch}"):
            value_updates.append(value_update(recipe, trainee, part))
    return Learnt(advantages_PG, updates, figures | _mean_figures(value_updates))


def estimated(recipe: ZeroRecipe, trainee: Trainee, batch: Batch, rewards_B: Tensor) -> tuple[Batch, dict[str, float]]:
    """The batch with values, returns, advantages of its tokens and all logprobs, none of which an update may change.

    Where the recipe wants the KL in the reward, β k1 is taken off at each token (arXiv:2402.03300, equation 2). A
    completion's own advantage is the mean over its tokens.
    """
    settings, mask_BT = cast(GAEAdvantage, recipe.advantage), batch.completion_mask_BT
    critic = trainee.critic_of()
    kl_BT, figures = torch.zeros(mask_BT.shape), dict[str, float]()
    takes_kl = trainee.reference is not None and recipe.objective.kl_place == "reward"
    has_steps = recipe.rollouts.steps_per_iteration > 1
    if takes_kl or (has_steps and recipe.rollouts.old_logprobs == "policy"):
        policy_BT = logprobs_of(recipe, trainee, trainee.policy, batch)
    if has_steps:
        is_own = recipe.rollouts.old_logprobs == "policy"
        batch = replace(batch, old_logprobs_BT=policy_BT if is_own else batch.sampler_logprobs_BT)
    if trainee.reference is not None:
        reference_BT = logprobs_of(recipe, trainee, trainee.reference, batch)
        if takes_kl:
            kl_BT = kl_k1(policy_BT, reference_BT)
            figures["kl"] = float(kl_BT[mask_BT].mean())
            figures["kl_per_completion"] = float(kl_BT.sum(-1).mean())
        else:
            batch = replace(batch, reference_logprobs_BT=reference_BT)
    room = tokens_within_budget(critic.scalar, recipe.run.max_tokens_per_microbatch)
    values_BT = values_of(critic.scalar, batch.token_ids_BT, mask_BT, batch.row_groups(room))
    rewards_BT = token_rewards(rewards_B, kl_BT, mask_BT, kl_coef=recipe.objective.kl_coef if takes_kl else 0.0)
    advantages_BT, returns_BT = gae(rewards_BT, values_BT, mask_BT, gamma=settings.gamma, lam=settings.lam)
    figures["explained_variance"] = explained_variance(values_BT[mask_BT], returns_BT[mask_BT])
    figures["value"] = float(values_BT[mask_BT].mean())
    advantages_BT = whitened(advantages_BT, mask_BT) if settings.whiten else advantages_BT
    mean_B = advantages_BT.sum(-1) / mask_BT.sum(-1).clamp_min(1)
    estimates = {"advantages_BT": advantages_BT, "values_BT": values_BT, "returns_BT": returns_BT}
    return replace(batch, advantages_B=mean_B, **estimates), figures


def minibatches(recipe: ZeroRecipe, trainee: Trainee, batch: Batch, *, seed: str) -> Iterator[Batch]:
    """The iteration's completions, shuffled into one minibatch a step, with token weights of the whole minibatch."""
    weigh = token_weigher(recipe, max_new_tokens=trainee.sampler.sampling.max_new_tokens)
    for rows in shuffled_split(len(batch), recipe.rollouts.steps_per_iteration, seed=seed):
        if rows:
            part = batch.select(rows)
            yield part.with_token_weights(weigh(part.completion_mask_BT))


def value_update(recipe: ZeroRecipe, trainee: Trainee, minibatch: Batch) -> dict[str, float]:
    """One optimizer step of the value model, every token counting the same; returns its figures."""
    critic, clip = trainee.critic_of(), cast(GAEAdvantage, recipe.advantage).value.clip
    weighed = minibatch.with_token_weights(token_mean(minibatch.completion_mask_BT))
    clipped: list[float] = []
    room = tokens_within_budget(critic.scalar, recipe.run.max_tokens_per_microbatch)
    microbatches = (
        ScalarRows(part.token_ids_BT, part.completion_mask_BT, partial(_value_loss, part, clip, clipped))
        for part in weighed.microbatches(room)
    )
    done: Update = scalar_step(critic.scalar, critic.optimizer, microbatches)
    return {"value_loss": done.loss, "value_grad_norm": done.grad_norm, "value_clip_share": sum(clipped)}


def _value_loss(part: Batch, clip: float | None, clipped: list[float], values_BT: Tensor) -> Tensor:
    """The loss of one microbatch; the weight of its clipped tokens is noted."""
    part = part.to(values_BT.device)
    assert part.values_BT is not None and part.returns_BT is not None
    held_BT = clipped_values(values_BT.detach(), part.values_BT, part.returns_BT, clip=clip)
    clipped.append(float((held_BT * part.token_weights_BT).sum()))
    return value_loss(values_BT, part.values_BT, part.returns_BT, part.token_weights_BT, clip=clip)


def _mean_figures(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
