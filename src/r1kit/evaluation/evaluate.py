"""How good a policy is: k samples a problem, every figure with its n, k, truncation and standard error."""

from collections.abc import Sequence
from typing import Any

from r1kit.engine.rollouts import Sampler
from r1kit.evaluation.outcomes import figures, outcome_of, sample_of
from r1kit.types import Group, Problem


def evaluate(sampler: Sampler, problems: Sequence[Problem], k: int, *, seed: str) -> dict[str, Any]:
    """The figures of `summarise` over k samples a problem, and how they were drawn."""
    return summarise(sampler.groups(problems, k, seed=seed)) | drawn_by(sampler)


def drawn_by(sampler: Sampler) -> dict[str, float]:
    """What a figure must say of the sampling behind it."""
    return {"temperature": sampler.sampling.temperature, "max_new_tokens": sampler.sampling.max_new_tokens}


def summarise(groups: Sequence[Group], *, prompt_ends_with_think: bool = False) -> dict[str, Any]:
    """The figures of `outcomes.figures` over groups, their votes counted by spelling."""
    return figures(
        [
            outcome_of(
                group.problem, [sample_of(r) for r in group.rollouts], prompt_ends_with_think=prompt_ends_with_think
            )
            for group in groups
        ]
    )
