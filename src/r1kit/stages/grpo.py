"""R1-Zero and every other reinforcement-learning stage: GRPO on scored rollouts, the loop on one screen."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from r1kit.config.objective import ConstantLengthWeights, TokenMeanWeights
from r1kit.engine.rollouts import Sampler
from r1kit.evaluation.breakdown import breakdown, by_task, kept_rows, rollout_row
from r1kit.evaluation.evaluate import drawn_by, summarise
from r1kit.models.policy import Policy, TokenStats
from r1kit.objectives import advantages, policy_loss, token_weights
from r1kit.recipe import ZeroRecipe
from r1kit.run import Run
from r1kit.tasks import sample_problems
from r1kit.training.batch import Batch, collate_rollouts, shuffled_split
from r1kit.training.checkpoint import Progress, save_checkpoint, save_model
from r1kit.training.memory import peak_memory_bytes
from r1kit.training.optimizer import Optimizer
from r1kit.training.step import Update, batch_logprobs, optimizer_step
from r1kit.types import Group

OBJECTIVES: dict[str, Callable[..., tuple[Tensor, dict[str, Tensor]]]] = {"grpo": policy_loss.grpo_loss}
ADVANTAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "group_norm": advantages.group_norm_advantages,
    "group_mean": advantages.group_mean_advantages,
}
Report = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainee:
    """What a stage trains, and what it trains with."""

    policy: Policy
    reference: Policy | None
    """Held only where the KL term has weight."""
    optimizer: Optimizer
    sampler: Sampler


@dataclass(slots=True)
class Stopwatch:
    """Seconds spent in each phase of an iteration."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time until the end of the block."""
        start = time.perf_counter()
        yield
        self.seconds[f"{name}_seconds"] = self.seconds.get(f"{name}_seconds", 0.0) + time.perf_counter() - start


def train_grpo(recipe: ZeroRecipe, trainee: Trainee, progress: Progress, run: Run, report: Report) -> Progress:
    """Run one RL stage from `progress` on (arXiv:2402.03300, algorithm 1); returns how far it came.

    It stops early, with everything saved, where the run was asked to. `report` is told of every row of metrics.
    """
    rollouts, policy, sampler = recipe.rollouts, trainee.policy, trainee.sampler
    for iteration in range(progress.iterations_done, rollouts.num_iterations):
        seed, watch = f"{recipe.seed}/iteration-{iteration}", Stopwatch()
        with watch.phase("testing"):
            is_due = _test_is_due(recipe, iteration)
            held_out = held_out_figures(recipe, sampler, run, iteration, with_harder=iteration == 0) if is_due else {}

        # Prompts -> rollouts -> scores: a group of completions per problem, drawn from the current policy.
        with watch.phase("sampling"):
            problems = sample_problems(recipe.tasks, rollouts.problems_per_iteration, seed=seed, split="train")
            groups = sampler.groups(problems, rollouts.group_size, seed=seed)

        # Scores -> advantages: a completion is only good relative to its siblings.
        rewards_PG = torch.tensor([group.rewards_G for group in groups])
        advantages_PG = ADVANTAGES[recipe.advantage.kind](rewards_PG)

        # Advantages -> updates: each minibatch is one optimizer step; the first is exactly on-policy.
        with watch.phase("training"):
            updates = []
            for minibatch in minibatches(recipe, trainee, groups, advantages_PG, seed=seed):
                updates.append(update(recipe, trainee, minibatch))
                _refresh_reference(recipe, trainee)

        # Sync: the next iteration samples from the weights just made.
        sampler.engine.load_weights(policy, version=iteration + 1)

        progress = Progress(iterations_done=iteration + 1, steps_done=trainee.optimizer.steps_done)
        row = iteration_figures(recipe, iteration, groups, updates, progress.steps_done) | held_out
        row |= machine_figures(row["completion_tokens"], watch)
        run.log_metrics(row)
        if _rollouts_are_due(recipe, iteration):
            run.log_rollouts(rollout_rows(iteration, groups, advantages_PG))
        report(row)
        if progress.iterations_done % recipe.run.checkpoint_interval_iterations == 0 or run.stop_requested:
            save_trainee(recipe, trainee, progress, run)
        if run.stop_requested:
            return progress
    return progress


def finish(recipe: ZeroRecipe, trainee: Trainee, progress: Progress, run: Run, report: Report) -> None:
    """Save the trained model and test it once more; the last row of metrics.jsonl is that test's."""
    save_trainee(recipe, trainee, progress, run)
    counts = {"iteration": progress.iterations_done, "step": progress.steps_done}
    row = counts | held_out_figures(recipe, trainee.sampler, run, progress.iterations_done, with_harder=True)
    run.log_metrics(row)
    report(row)
    save_model(trainee.policy, run.final)


def minibatches(
    recipe: ZeroRecipe, trainee: Trainee, groups: list[Group], advantages_PG: Tensor, *, seed: str
) -> Iterator[Batch]:
    """The iteration's rollouts, shuffled into one minibatch a step, without those of groups that can teach nothing.

    Token weights are those of the whole minibatch, dead groups included: a dead group lowers the step, as in
    the paper's mean over all groups, but costs no forward pass, and sends no KL gradient.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    batch = collate_rollouts(rollouts, advantages_PG.flatten())
    parts = shuffled_split(len(rollouts), recipe.rollouts.steps_per_iteration, seed=seed)
    alive = (advantages_PG != 0).any(-1).repeat_interleave(advantages_PG.shape[1]).tolist()
    cut = [(batch.select(rows), [place for place, row in enumerate(rows) if alive[row]]) for rows in parts]
    weigh = _token_weigher(recipe)
    weighed = [part.with_token_weights(weigh(part.completion_mask_BT)).select(kept) for part, kept in cut if kept]
    # All old and reference logprobs are taken before the first update changes the policy.
    return iter([_with_logprobs(recipe, trainee, part) for part in weighed])


def update(recipe: ZeroRecipe, trainee: Trainee, minibatch: Batch) -> Update:
    """One optimizer step on the GRPO objective."""
    return optimizer_step(
        trainee.policy,
        trainee.optimizer,
        minibatch,
        partial(_loss, recipe),
        temperature=trainee.sampler.sampling.logprob_temperature,
        max_tokens_per_microbatch=recipe.run.max_tokens_per_microbatch,
    )


def _loss(recipe: ZeroRecipe, stats: TokenStats, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The objective that the recipe names, on one microbatch."""
    objective = recipe.objective
    old = stats.logprobs_BT.detach() if batch.old_logprobs_BT is None else batch.old_logprobs_BT
    return OBJECTIVES[objective.kind](
        stats.logprobs_BT,
        old,
        advantages_B=batch.advantages_B,
        token_weights_BT=batch.token_weights_BT,
        reference_logprobs_BT=batch.reference_logprobs_BT,
        clip_low=objective.clip_eps,
        clip_high=objective.clip_high,
        kl_coef=objective.kl_coef,
    )


def _with_logprobs(recipe: ZeroRecipe, trainee: Trainee, batch: Batch) -> Batch:
    """The batch with old logprobs where an iteration has several steps, and reference logprobs for the KL term."""
    logprobs_of = partial(
        batch_logprobs,
        batch=batch,
        temperature=trainee.sampler.sampling.logprob_temperature,
        max_tokens_per_microbatch=recipe.run.max_tokens_per_microbatch,
    )
    if recipe.rollouts.steps_per_iteration > 1:
        use_sampler = recipe.rollouts.old_logprobs == "sampler"
        batch = replace(
            batch, old_logprobs_BT=batch.sampler_logprobs_BT if use_sampler else logprobs_of(trainee.policy)
        )
    if trainee.reference is not None:
        batch = replace(batch, reference_logprobs_BT=logprobs_of(trainee.reference))
    return batch


def _token_weigher(recipe: ZeroRecipe) -> Callable[[Tensor], Tensor]:
    if isinstance(recipe.token_weights, ConstantLengthWeights):
        return partial(token_weights.constant_length, max_new_tokens=recipe.sampling.max_new_tokens)
    is_token_mean = isinstance(recipe.token_weights, TokenMeanWeights)
    return token_weights.token_mean if is_token_mean else token_weights.sequence_mean


def _refresh_reference(recipe: ZeroRecipe, trainee: Trainee) -> None:
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
    )


def held_out_figures(
    recipe: ZeroRecipe, sampler: Sampler, run: Run, iteration: int, *, with_harder: bool
) -> dict[str, Any]:
    """The figures of the held-out test, under `held_out` and `harder`: the same problems and seeds each time.

    The run keeps some of the completions, so that the same problems can be read side by side later.
    """
    test, seed = recipe.evaluation, f"{recipe.seed}/held-out"
    tests = {"held_out": recipe.tasks} | ({"harder": test.harder} if with_harder and test.harder else {})
    figures = {}
    for name, tasks in tests.items():
        problems = sample_problems(tasks, test.num_problems, seed=seed, split="held_out")
        groups = sampler.groups(problems, test.samples_per_problem, seed=seed)
        run.log_held_out(kept_rows(iteration, name, groups))
        figures[name] = summarise(groups) | drawn_by(sampler) | {"by_task": by_task(groups)}
    return figures


def _test_is_due(recipe: ZeroRecipe, iteration: int) -> bool:
    every = recipe.evaluation.interval_iterations
    return iteration == 0 or (every > 0 and iteration % every == 0)


def _rollouts_are_due(recipe: ZeroRecipe, iteration: int) -> bool:
    last = recipe.rollouts.num_iterations - 1
    return iteration in (0, last) or iteration % recipe.run.rollouts_interval_iterations == 0


def iteration_figures(
    recipe: ZeroRecipe, iteration: int, groups: list[Group], updates: list[Update], steps_done: int
) -> dict[str, Any]:
    """Everything that is logged of one iteration but times and held-out figures."""
    scores = [rollout.score for group in groups for rollout in group.rollouts]
    parts = {name: sum(score.parts[name] for score in scores) / len(scores) for name in scores[0].parts}
    return (
        {
            "iteration": iteration,
            "step": steps_done,
            "reward": sum(score.total for score in scores) / len(scores),
            "reward_parts": parts,
            "advantage_shares": advantage_shares(groups, recipe),
            "dead_group_share": sum(not group.has_variance for group in groups) / len(groups),
            "completion_tokens": sum(len(r.completion.token_ids) for group in groups for r in group.rollouts),
            "loss": sum(update.loss for update in updates) / len(updates) if updates else 0.0,
            "grad_norm": sum(update.grad_norm for update in updates) / len(updates) if updates else 0.0,
            "num_updates": len(updates),
        }
        | summarise(groups)
        | breakdown(groups)
        | watched_figures(recipe, updates)
    )


def watched_figures(recipe: ZeroRecipe, updates: list[Update]) -> dict[str, float]:
    """What the updates watched, over the tokens that trained: means, and for names in `_max` the largest."""
    figures = {}
    for name in updates[0].watched if updates else ():
        # Against the sampler's own old logprobs, later steps measure training, not a mismatch.
        only_first = name.startswith("logprob_gap") and recipe.rollouts.old_logprobs == "sampler"
        values = [update.watched[name] for update in (updates[:1] if only_first else updates)]
        figures[name] = max(values) if name.endswith("_max") else sum(values) / len(values)
    return figures


def machine_figures(completion_tokens: int, watch: Stopwatch) -> dict[str, float]:
    """What depends on the machine, and so differs between a run and its repetition."""
    return watch.seconds | {
        "tokens_per_second": completion_tokens / watch.seconds["sampling_seconds"],
        "peak_memory_bytes": peak_memory_bytes(),
    }


def advantage_shares(groups: list[Group], recipe: ZeroRecipe) -> dict[str, float]:
    """The share of all advantage that each reward part causes: its weighted deviation from the group's mean.

    A format part with a large share means that the policy learns form, not truth.
    """
    weights = recipe.rewards.model_dump()
    caused = dict.fromkeys(weights, 0.0)
    for group in groups:
        for name, weight in weights.items():
            values = [rollout.score.parts[name] for rollout in group.rollouts]
            centre = sum(values) / len(values)
            caused[name] += abs(weight) * sum(abs(value - centre) for value in values)
    total = sum(caused.values())
    return {name: amount / total if total else 0.0 for name, amount in caused.items()}


def rollout_rows(iteration: int, groups: list[Group], advantages_PG: Tensor) -> Iterator[dict[str, object]]:
    """What rollouts.jsonl keeps of an iteration: every completion of every problem."""
    for group, advantages_G in zip(groups, advantages_PG.tolist(), strict=True):
        for rollout, advantage in zip(group.rollouts, advantages_G, strict=True):
            yield rollout_row(iteration, rollout) | {"advantage": advantage}
