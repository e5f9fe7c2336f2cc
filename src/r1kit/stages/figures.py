"""What is logged of an iteration of reinforcement learning: one row of metrics.jsonl, rows of rollouts.jsonl."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from r1kit.evaluation.breakdown import breakdown, rollout_row
from r1kit.evaluation.evaluate import summarise
from r1kit.recipe import ZeroRecipe
from r1kit.rewards.preference import GENERAL, UNPAID
from r1kit.stages.drawing import Draw, draw_figures, is_known, unknown_figures
from r1kit.stages.preference import by_rule
from r1kit.training.memory import peak_memory_bytes
from r1kit.training.step import Update
from r1kit.types import Group, Problem, Score


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


def iteration_figures(
    recipe: ZeroRecipe, iteration: int, draw: Draw, updates: list[Update], steps_done: int
) -> dict[str, Any]:
    """Everything that is logged of one iteration but times and held-out figures.

    Rewards are means over the completions whose reward is known. They, verdicts, lengths and what belongs to them are
    over the problems that rules judge, so that they can be compared before and after reward models come in; what
    these graded stands beside it. All other figures are over all that was drawn.
    """
    rollouts = [rollout for group in draw.groups for rollout in group.rollouts]
    known = [rollout for rollout in rollouts if is_known(rollout)]
    judged = by_rule(draw.groups, recipe)
    scores = [rollout.score for group in judged for rollout in group.rollouts if is_known(rollout)]
    return (
        {
            "iteration": iteration,
            "step": steps_done,
            "reward": _mean([score.total for score in scores]),
            "reward_parts": _mean_parts(scores),
            "advantage_shares": advantage_shares(draw.groups, recipe),
            "dead_group_share": 1 - len(draw.with_variance) / len(draw.groups),
            "unknown_share": 1 - len(known) / len(rollouts),
            "completion_tokens": sum(len(rollout.completion.token_ids) for rollout in rollouts),
            "loss": sum(update.loss for update in updates) / len(updates) if updates else 0.0,
            "grad_norm": sum(update.grad_norm for update in updates) / len(updates) if updates else 0.0,
            "num_updates": len(updates),
        }
        | draw_figures(draw)
        | unknown_figures(draw.groups)
        | summarise(judged)
        | breakdown(judged)
        | watched_figures(recipe, updates)
        | _graded_figures(draw.groups, judged)
    )


def watched_figures(recipe: ZeroRecipe, updates: Sequence[Update]) -> dict[str, float]:
    """What the updates watched, over the tokens that trained: means, and for names in `_max` the largest."""
    figures = {}
    for name in updates[0].watched if updates else ():
        # Against the sampler's own old logprobs, later steps measure training, not a mismatch.
        only_first = name.startswith("logprob_gap") and recipe.rollouts.old_logprobs == "sampler"
        values = [update.watched[name] for update in (updates[:1] if only_first else updates)]
        figures[name] = max(values) if name.endswith("_max") else sum(values) / len(values)
    if "importance" in figures:
        # (Σ w)² / (n Σ w²): the share of tokens that would tell as much, were all weights 1.
        squares = figures.pop("importance_squared")
        figures["effective_sample_share"] = figures["importance"] ** 2 / squares if squares else 0.0
    return figures


def machine_figures(completion_tokens: int, watch: Stopwatch) -> dict[str, float]:
    """What depends on the machine, and so differs between a run and its repetition."""
    return watch.seconds | {
        "tokens_per_second": completion_tokens / watch.seconds["sampling_seconds"],
        "peak_memory_bytes": peak_memory_bytes(),
    }


def advantage_shares(groups: Sequence[Group], recipe: ZeroRecipe) -> dict[str, float]:
    """The share of all advantage that each reward part causes: its weighted deviation from the group's mean.

    A format part with a large share means that the policy learns form, not truth.
    """
    caused: dict[str, float] = {}
    for group in groups:
        known = [rollout.score.parts for rollout in group.rollouts if is_known(rollout)]
        for name in known[0] if known else group.rollouts[0].score.parts:
            values = [parts[name] for parts in known]
            centre = sum(values) / len(values) if values else 0.0
            weight = part_weight(recipe, name, group.problem)
            caused[name] = caused.get(name, 0.0) + abs(weight) * sum(abs(value - centre) for value in values)
    total = sum(caused.values())
    return {name: amount / total if total else 0.0 for name, amount in caused.items()}


def part_weight(recipe: ZeroRecipe, name: str, problem: Problem) -> float:
    """What a part counts in the reward of a completion of this problem."""
    if recipe.preference is not None and problem.verifier == GENERAL:
        if name in recipe.preference.models:
            return recipe.preference.weight
        if name in UNPAID:
            return 0.0
    return float(getattr(recipe.rewards, name))


def rollout_rows(iteration: int, draw: Draw, advantages_PG: Tensor) -> Iterator[dict[str, object]]:
    """What rollouts.jsonl keeps of an iteration: every completion of every problem; dropped ones have advantage 0."""
    advantages = dict(zip(draw.trained, advantages_PG.tolist(), strict=True))
    for place, group in enumerate(draw.groups):
        for number, rollout in enumerate(group.rollouts):
            advantage = advantages[place][number] if place in advantages else 0.0
            yield rollout_row(iteration, rollout) | {"advantage": advantage, "trained": place in advantages}


def _graded_figures(groups: Sequence[Group], judged: Sequence[Group]) -> dict[str, Any]:
    """Of the problems that reward models graded, once there are any: their share, their reward and its parts."""
    graded = [group for group in groups if all(group is not other for other in judged)]
    if not graded:
        return {}
    scores = [rollout.score for group in graded for rollout in group.rollouts if is_known(rollout)]
    return {
        "general_share": len(graded) / len(groups),
        "general_reward": _mean([score.total for score in scores]),
        "general_parts": _mean_parts(scores),
    }


def _mean_parts(scores: Sequence[Score]) -> dict[str, float]:
    """The mean of each part over those that have it."""
    names = dict.fromkeys(name for score in scores for name in score.parts)
    return {name: _mean([score.parts[name] for score in scores if name in score.parts]) for name in names}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
