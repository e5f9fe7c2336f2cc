"""Reward models in a reinforcement-learning stage: loaded and checked before it begins, measured as it goes on."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from r1kit.config.tasks import FileTask, TaskConfig
from r1kit.engine.rollouts import Sampler
from r1kit.errors import ModelError, RecipeError
from r1kit.evaluation.evaluate import summarise
from r1kit.evaluation.metrics import mean, stderr_of_mean
from r1kit.models.reward import Exchange, RewardModel, load_reward_model
from r1kit.recipe import ZeroRecipe
from r1kit.rewards.preference import GENERAL, PreferenceRewards
from r1kit.tasks import sample_problems
from r1kit.tasks.source import longest_problems
from r1kit.types import Group, Problem

CHECKED = 16
"""Problems of each generated task that are looked at before a run."""
WANTED_LOSS = {"helpfulness": "pairwise", "safety": "pointwise"}


@dataclass(frozen=True, slots=True)
class ModelGrader:
    """A reward model as `rewards.preference` asks it."""

    model: RewardModel

    @property
    def centre(self) -> float:
        """What its card says."""
        return self.model.card.centre

    def seen(self, completion: str) -> str | None:
        """The summary, or all of it."""
        return self.model.seen(completion)

    def scores(self, exchanges: Sequence[Exchange]) -> list[float]:
        """Each exchange's score."""
        return self.model.scores(exchanges)


def preference_rewards(recipe: ZeroRecipe, sampler: Sampler) -> PreferenceRewards | None:
    """The recipe's reward models, loaded; None where it has none.

    Raises ModelError for a folder that is no reward model, or one that can't grade what it is named for.
    """
    if recipe.preference is None:
        return None
    graders = {}
    for part, path in recipe.preference.models.items():
        model = load_reward_model(path, device=recipe.model.device)
        if part == "helpfulness" and model.card.sees == "all":
            raise ModelError(
                f"preference.helpfulness: {path} was trained to see the thinking too; a helpfulness model must see the "
                "summary alone, or the policy is paid for how its thinking looks: train one with sees = 'summary'"
            )
        if model.card.loss != WANTED_LOSS[part]:
            raise ModelError(
                f"preference.{part}: {path} was trained with loss = {model.card.loss!r}, and {part} wants "
                f"{WANTED_LOSS[part]!r}; are helpfulness and safety interchanged?"
            )
        graders[part] = ModelGrader(model)
    return PreferenceRewards(
        graders=graders,
        names=recipe.preference.models,
        weight=recipe.preference.weight,
        rules=recipe.rewards,
        prompt_ends_with_think=sampler.template.ends_with_think,
    )


def check_general_problems(recipe: ZeroRecipe, preference: PreferenceRewards | None) -> None:
    """Refuse general tasks that nobody could grade, and other tasks where general ones belong."""
    if preference is None:
        for problem in _some(recipe.tasks):
            if problem.verifier == GENERAL and "accepts" not in problem.meta:
                raise RecipeError(
                    f"problem {problem.id!r} is a general one, which no rule can judge; list its task under "
                    "[[preference.tasks]] and name a reward model with preference.helpfulness or preference.safety"
                )
        return
    assert recipe.preference is not None
    for problem in _some(recipe.preference.tasks):
        if problem.verifier != GENERAL:
            raise RecipeError(
                f"problem {problem.id!r} of [[preference.tasks]] has the verifier {problem.verifier!r}; those tasks "
                "are for general prompts: list it under [[tasks]]"
            )
        preference.part_of(problem)
    if any(problem.verifier == GENERAL for problem in _some(recipe.tasks)):
        raise RecipeError("[[tasks]] hold general problems; list them under [[preference.tasks]]")


def general_figures(groups: Sequence[Group], preference: PreferenceRewards) -> dict[str, Any]:
    """What a test of general prompts tells: the usual figures, and for each reward model its part beside the truth.

    `pass_at_1` is the share of completions that are right by rule, which only the nano world knows; else it is 0.
    """
    by_model = {}
    for part in preference.graders:
        own = [group for group in groups if preference.part_of(group.problem) == part]
        if own:
            means = [mean([rollout.score.parts[part] for rollout in group.rollouts]) for group in own]
            found = summarise(own)
            by_model[part] = {
                "grade": mean(means),
                "grade_stderr": stderr_of_mean(means),
                **{name: found[name] for name in ("pass_at_1", "pass_at_1_stderr", "n", "mean_completion_tokens")},
            }
    return {"by_model": by_model}


def by_rule(groups: Sequence[Group], recipe: ZeroRecipe) -> list[Group]:
    """The groups whose verdicts are a matter of rules; all of them in a run without reward models."""
    found = [group for group in groups if recipe.preference is None or group.problem.verifier != GENERAL]
    return found or list(groups)


def _some(tasks: Sequence[TaskConfig]) -> list[Problem]:
    """All problems of files, and some of each generated task."""
    generated = [task for task in tasks if not isinstance(task, FileTask)]
    drawn = [p for task in generated for p in sample_problems([task], CHECKED, seed="general", split="train")]
    return [*longest_problems(tasks, sys.maxsize), *drawn]
