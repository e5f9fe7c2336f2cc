"""Equal compute: a student may spend on reinforcement learning as many tokens as another spent on fine-tuning.

Counted are the tokens that the student generates and those of its completions that it trains on. What a teacher
generated is the teacher's, and counted apart.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from r1kit.config.model import ModelSettings
from r1kit.errors import RunError
from r1kit.models.chat_template import ChatTemplate
from r1kit.models.loading import load_policy
from r1kit.recipe import SFTRecipe, ZeroRecipe, parse_recipe
from r1kit.run import Run
from r1kit.stages.sft import read_examples
from r1kit.types import Group


def trained_tokens(groups: Sequence[Group], advantages_PG: Tensor) -> int:
    """Completion tokens of the groups that taught something; the others cost no forward pass."""
    alive = (advantages_PG != 0).flatten(1).any(-1).tolist() if len(groups) else []
    return sum(
        len(rollout.completion.token_ids)
        for group, taught in zip(groups, alive, strict=True)
        if taught
        for rollout in group.rollouts
    )


def fine_tuning_tokens(model: Path) -> int:
    """Completion tokens that a finished fine-tuning trained on, over all its epochs; `model` is its `final/` or folder.

    Raises RunError where there is none.
    """
    folder = model.parent if model.name == "final" else model
    try:
        table = json.loads((folder / "recipe.json").read_text("utf-8"))["recipe"]
        recipe = parse_recipe(table, source=str(folder / "recipe.json"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"rollouts.equal_compute_to: {folder} holds no fine-tuning to compare with: {error}") from error
    if not isinstance(recipe, SFTRecipe) or not (folder / "final").is_dir():
        raise RunError(f"rollouts.equal_compute_to: {folder} is no finished fine-tuning")
    template = ChatTemplate.of(load_policy(ModelSettings(path=str(folder / "final"))), recipe.template)
    examples = read_examples(recipe.data, template)
    return recipe.sft.num_epochs * sum(sum(example.row.trainable) for example in examples)


def spent_tokens(run: Run) -> int:
    """Tokens that a run of reinforcement learning has generated and trained on so far."""
    return sum(row.get("completion_tokens", 0) + row.get("trained_tokens", 0) for row in run.read("metrics.jsonl"))


class TokenBudget:
    """What a stage may spend; without a limit where its recipe names no other stage."""

    def __init__(self, recipe: ZeroRecipe, run: Run) -> None:
        """Count what the run has spent before, and what the stage that it is compared with spent."""
        other = recipe.rollouts.equal_compute_to
        self.limit = fine_tuning_tokens(other) if other is not None else None
        self.spent = spent_tokens(run)

    @property
    def is_spent(self) -> bool:
        """True where no further iteration may begin."""
        return self.limit is not None and self.spent >= self.limit

    def spend(self, row: dict[str, object]) -> None:
        """Count one iteration's row of metrics."""
        self.spent += int(str(row["completion_tokens"])) + int(str(row["trained_tokens"]))

    @property
    def note(self) -> str:
        """What to say in the end; nothing where there was no limit."""
        if self.limit is None:
            return ""
        told = f"{self.spent:,} tokens generated and trained, of {self.limit:,} that the fine-tuning trained"
        return told if self.is_spent else f"{told}; raise rollouts.num_iterations for equal compute"
