"""R1-Zero and every other reinforcement-learning stage: GRPO on scored rollouts, the loop on one screen."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from r1kit.engine.rollouts import Sampler
from r1kit.evaluation.breakdown import by_task, kept_rows
from r1kit.evaluation.evaluate import drawn_by, summarise
from r1kit.models.policy import Policy
from r1kit.objectives.kl import kl_k1
from r1kit.recipe import ZeroRecipe
from r1kit.run import Run
from r1kit.stages.compute import TokenBudget, trained_tokens
from r1kit.stages.drawing import draw_groups, is_known, known_of, rewards_of
from r1kit.stages.figures import Stopwatch, iteration_figures, machine_figures, rollout_rows
from r1kit.stages.objective import ADVANTAGES, objective_loss, token_weigher
from r1kit.stages.preference import general_figures
from r1kit.tasks.source import make_source, sample_problems
from r1kit.training.batch import Batch, collate_rollouts, shuffled_split
from r1kit.training.checkpoint import Progress, save_checkpoint, save_model
from r1kit.training.critic import Critic
from r1kit.training.memory import return_free_memory
from r1kit.training.optimizer import Optimizer
from r1kit.training.step import Update, batch_logprobs, optimizer_step
from r1kit.types import Group, Rollout

Report = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainee:
    """What a stage trains, and what it trains with."""

    policy: Policy
    reference: Policy | None
    """Held only where the KL term has weight."""
    optimizer: Optimizer
    sampler: Sampler
    critic: Critic | None = None
    """The value model, where advantages come from one (PPO)."""

    def critic_of(self) -> Critic:
        """The value model of a trainee that has one."""
        assert self.critic is not None
        return self.critic


@dataclass(frozen=True, slots=True)
class Learnt:
    """What an iteration's completions were worth, and what the updates did."""

    advantages_PG: Tensor
    updates: list[Update]
    figures: Mapping[str, float]
    """What else is logged of it."""


class Learn(Protocol):
    """How an iteration's groups become updates."""

    def __call__(self, recipe: ZeroRecipe, trainee: Trainee, groups: list[Group], *, seed: str) -> Learnt:
        """Take all of the iteration's optimizer steps."""
        ...


def train_grpo(
    recipe: ZeroRecipe, trainee: Trainee, progress: Progress, run: Run, report: Report, learn: Learn | None = None
) -> Progress:
    """Run one RL stage from `progress` on (arXiv:2402.03300, algorithm 1); returns how far it came.

    It stops early, with everything saved, where the run was asked to. `report` is told of every row of metrics. `learn`
    takes the updates; unset: GRPO's.
    """
    learn = learn or learn_by_groups
    source = make_source(recipe.training_tasks, recipe.curriculum, seed=recipe.seed)
    source.load_state(progress.source)
    budget = TokenBudget(recipe, run)
    for iteration in range(progress.iterations_done, recipe.rollouts.num_iterations):
        if budget.is_spent:
            break
        seed, watch = f"{recipe.seed}/iteration-{iteration}", Stopwatch()
        trainee = at_iteration(recipe, trainee, iteration, progress.steps_done)
        source.open(recipe.num_open_tasks(progress.steps_done))
        with watch.phase("testing"):
            is_due = _test_is_due(recipe, iteration)
            sampler = trainee.sampler
            held_out = held_out_figures(recipe, sampler, run, iteration, with_harder=iteration == 0) if is_due else {}

        # Prompts -> rollouts -> scores: groups of completions, drawn from the current policy.
        with watch.phase("sampling"):
            draw = draw_groups(recipe.rollouts, sampler, source, seed=seed)
            sampler.engine.sleep()

        # Scores -> advantages -> updates: a completion is only good relative to others, or to what was expected.
        with watch.phase("training"):
            learnt = learn(recipe, trainee, draw.trained_groups, seed=seed)

        # Sync: the next iteration samples from the weights just made.
        sampler.engine.load_weights(trainee.policy, version=iteration + 1)

        progress = Progress(
            iterations_done=iteration + 1, steps_done=trainee.optimizer.steps_done, source=source.state()
        )
        row = iteration_figures(recipe, iteration, draw, learnt.updates, progress.steps_done)
        row |= {
            "trained_tokens": trained_tokens(draw.trained_groups, learnt.advantages_PG),
            **learnt.figures,
            **held_out,
        }
        row |= machine_figures(row["completion_tokens"], watch)
        run.log_metrics(row)
        budget.spend(row)
        if _rollouts_are_due(recipe, iteration):
            run.log_rollouts(rollout_rows(iteration, draw, learnt.advantages_PG))
        report(row)
        if progress.iterations_done % recipe.run.checkpoint_interval_iterations == 0 or run.stop_requested:
            save_trainee(recipe, trainee, progress, run)
        if run.stop_requested:
            return progress
    if budget.note:
        run.log_text(budget.note)
    return progress


def finish(recipe: ZeroRecipe, trainee: Trainee, progress: Progress, run: Run, report: Report) -> None:
    """Save the trained model and test it once more; the last row of metrics.jsonl is that test's."""
    save_trainee(recipe, trainee, progress, run)
    counts = {"iteration": progress.iterations_done, "step": progress.steps_done}
    trainee = at_iteration(recipe, trainee, progress.iterations_done, progress.steps_done)
    row = counts | held_out_figures(recipe, trainee.sampler, run, progress.iterations_done, with_harder=True)
    run.log_metrics(row)
    report(row)
    save_model(trainee.policy, run.final)


def learn_by_groups(recipe: ZeroRecipe, trainee: Trainee, groups: list[Group], *, seed: str) -> Learnt:
    """GRPO's updates: each minibatch is one optimizer step, and the first is exactly on-policy."""
    advantages_PG, figures = advantages_of(recipe, trainee, groups)
    updates = []
    for minibatch in minibatches(recipe, trainee, groups, advantages_PG, seed=seed):
        updates.append(update(recipe, trainee, minibatch))
        refresh_reference(recipe, trainee)
        return_free_memory()
    return Learnt(advantages_PG, updates, figures)


def at_iteration(recipe: ZeroRecipe, trainee: Trainee, iteration: int, steps_done: int) -> Trainee:
    """The trainee, sampling with the limit on length that is in force after so many steps; verdicts are dated."""
    sampling = replace(trainee.sampler.sampling, max_new_tokens=recipe.sampling.max_new_tokens_at(steps_done))
    judging = trainee.sampler.judging.at(iteration)
    return replace(trainee, sampler=replace(trainee.sampler, sampling=sampling, judging=judging))


def advantages_of(recipe: ZeroRecipe, trainee: Trainee, groups: list[Group]) -> tuple[Tensor, dict[str, float]]:
    """The advantages (P, G), and the KL that was taken off the rewards, where the recipe puts it there."""
    if not groups:
        return torch.zeros(0, recipe.rollouts.group_size), {}
    rewards_PG, known_PG, figures = rewards_of(groups), known_of(groups), {}
    if trainee.reference is not None and recipe.objective.kl_place == "reward":
        kl_PG, num_tokens = kl_of_completions(recipe, trainee, groups)
        rewards_PG = rewards_PG - recipe.objective.kl_coef * kl_PG
        figures = {"kl": float(kl_PG.sum()) / max(1, num_tokens), "kl_per_completion": float(kl_PG.mean())}
    # What is known of every reward is left to each function's closed form, to the last bit.
    return ADVANTAGES[recipe.advantage.kind](rewards_PG, None if known_PG.all() else known_PG), figures


def kl_of_completions(recipe: ZeroRecipe, trainee: Trainee, groups: list[Group]) -> tuple[Tensor, int]:
    """The sum of k1 over each completion (P, G), without gradient, and the number of all tokens."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    batch = collate_rollouts(rollouts, torch.zeros(len(rollouts)))
    assert trainee.reference is not None
    policy_BT, reference_BT = (logprobs_of(recipe, trainee, who, batch) for who in (trainee.policy, trainee.reference))
    return kl_k1(policy_BT, reference_BT).sum(-1).view(len(groups), -1), int(batch.completion_mask_BT.sum())


def minibatches(
    recipe: ZeroRecipe, trainee: Trainee, groups: list[Group], advantages_PG: Tensor, *, seed: str
) -> Iterator[Batch]:
    """The iteration's rollouts, shuffled into one minibatch a step, without those of groups that can teach nothing.

    Token weights are those of the whole minibatch, dead groups included: a dead group lowers the step, as in
    the paper's mean over all groups, but costs no forward pass, and sends no KL gradient. What does not train at all
    (its reward is unknown, or it was cut and the recipe leaves such out) is in no minibatch and in no denominator.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    trained = [row for row, rollout in enumerate(rollouts) if trains(recipe, rollout)]
    if not trained:
        return iter(())
    batch = collate_rollouts(rollouts, advantages_PG.flatten())
    deals = shuffled_split(len(trained), recipe.rollouts.steps_per_iteration, seed=seed)
    parts = [[trained[place] for place in deal] for deal in deals]
    alive = (advantages_PG != 0).any(-1).repeat_interleave(advantages_PG.shape[1]).tolist()
    kept = [(rows, [place for place, row in enumerate(rows) if alive[row]]) for rows in parts]
    cut = [(batch.select(rows), places) for rows, places in kept if places]
    weigh = token_weigher(recipe, max_new_tokens=trainee.sampler.sampling.max_new_tokens)
    weighed = [part.with_token_weights(weigh(part.completion_mask_BT)).select(places) for part, places in cut]
    # All old and reference logprobs are taken before the first update changes the policy.
    return iter([_with_logprobs(recipe, trainee, part) for part in weighed])


def update(recipe: ZeroRecipe, trainee: Trainee, minibatch: Batch) -> Update:
    """One optimizer step on the recipe's objective."""
    return optimizer_step(
        trainee.policy,
        trainee.optimizer,
        minibatch,
        partial(objective_loss, recipe),
        temperature=trainee.sampler.sampling.logprob_temperature,
        max_tokens_per_microbatch=recipe.run.max_tokens_per_microbatch,
    )


def trains(recipe: ZeroRecipe, rollout: Rollout) -> bool:
    """False where its reward is unknown, or where it was cut and the recipe leaves such out."""
    return is_known(rollout) and not (recipe.rollouts.mask_truncated and rollout.completion.is_truncated)


def _with_logprobs(recipe: ZeroRecipe, trainee: Trainee, batch: Batch) -> Batch:
    """The batch with old logprobs where an iteration has several steps, and reference logprobs for the KL term."""
    if recipe.rollouts.steps_per_iteration > 1:
        use_sampler = recipe.rollouts.old_logprobs == "sampler"
        old_BT = batch.sampler_logprobs_BT if use_sampler else logprobs_of(recipe, trainee, trainee.policy, batch)
        batch = replace(batch, old_logprobs_BT=old_BT)
    if trainee.reference is not None and recipe.objective.kl_place == "loss":
        batch = replace(batch, reference_logprobs_BT=logprobs_of(recipe, trainee, trainee.reference, batch))
    return batch


def logprobs_of(recipe: ZeroRecipe, trainee: Trainee, policy: Policy, batch: Batch) -> Tensor:
    """The logprobs (B, T) of a batch under a policy, at the sampling temperature, without gradient."""
    return batch_logprobs(
        policy,
        batch,
        temperature=trainee.sampler.sampling.logprob_temperature,
        max_tokens_per_microbatch=recipe.run.max_tokens_per_microbatch,
    )


def refresh_reference(recipe: ZeroRecipe, trainee: Trainee) -> None:
    """The reference becomes the latest policy every so many steps (arXiv:2501.12948v2, section 2.1)."""
    every = recipe.objective.reference_refresh_steps
    if trainee.reference is not None and every and trainee.optimizer.steps_done % every == 0:
        trainee.reference.load_weights(trainee.policy)


def save_trainee(recipe: ZeroRecipe, trainee: Trainee, progress: Progress, run: Run) -> None:
    """Write a checkpoint of all that trains."""
    run.sync()
    save_checkpoint(
        run.checkpoints,
        trainee.policy,
        trainee.optimizer,
        trainee.reference,
        progress,
        keep=recipe.run.keep_checkpoints,
        critic=trainee.critic,
    )


def held_out_figures(
    recipe: ZeroRecipe, sampler: Sampler, run: Run, iteration: int, *, with_harder: bool
) -> dict[str, Any]:
    """The figures of the held-out test, under `held_out`, `harder`, `general`: the same problems and seeds each time.

    The run keeps some of the completions, so that the same problems can be read side by side later.
    """
    test, seed = recipe.evaluation, f"{recipe.seed}/held-out"
    tests = {"held_out": recipe.tasks} | ({"harder": test.harder} if with_harder and test.harder else {})
    figures = {}
    num_problems = dict.fromkeys(tests, test.num_problems)
    if recipe.preference is not None:
        tests["general"], num_problems["general"] = recipe.preference.tasks, recipe.preference.num_test_problems
    for name, tasks in tests.items():
        problems = sample_problems(tasks, num_problems[name], seed=seed, split="held_out")
        groups = sampler.groups(problems, test.samples_per_problem, seed=seed)
        run.log_held_out(kept_rows(iteration, name, groups))
        figures[name] = summarise(groups) | drawn_by(sampler) | {"by_task": by_task(groups)}
        if name == "general" and sampler.preference is not None:
            figures[name] |= general_figures(groups, sampler.preference)
    return figures


def _test_is_due(recipe: ZeroRecipe, iteration: int) -> bool:
    every = recipe.evaluation.interval_iterations
    return iteration == 0 or (every > 0 and iteration % every == 0)


def _rollouts_are_due(recipe: ZeroRecipe, iteration: int) -> bool:
    last = recipe.rollouts.num_iterations - 1
    return iteration in (0, last) or iteration % recipe.run.rollouts_interval_iterations == 0
