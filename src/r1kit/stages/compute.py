"""Equal compute: a student may spend on reinforcement learning as many tokens as another spent on fine-tuning.

Counted are the tokens that the student generates, and those that it trains on, prompts included. What a teacher
generated is the teacher's, and counted apart.
"""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from r1kit.errors import RunError
from r1kit.recipe import ZeroRecipe
from r1kit.run import Run, read_rows
from r1kit.types import Group


def trained_tokens(groups: Sequence[Group], advantages_PG: Tensor) -> int:
    """Tokens of the groups that taught something; the others cost no forward pass."""
    alive = (advantages_PG != 0).flatten(1).any(-1).tolist() if len(groups) else []
    return sum(
        len(rollout.prompt_token_ids) + len(rollout.completion.token_ids)
        for group, taught in zip(groups, alive, strict=True)
        if taught
        for rollout in group.rollouts
    )


def fine_tuning_tokens(model: Path) -> int:
    """Tokens that a finished fine-tuning trained on, over all its epochs; `model` is its `final/`, or its folder.

    Raises RunError where there is none.
    """
    folder = model.parent if model.name == "final" else model
    metrics = folder / "metrics.jsonl"
    rows = read_rows(metrics) if metrics.is_file() and (folder / "final").is_dir() else []
    total = sum(int(row.get("num_tokens", 0)) for row in rows)
    if not total:
        raise RunError(f"rollouts.equal_compute_to: {folder} holds no finished fine-tuning to compare with")
    return total


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
