"""Grades of reward models beside the rules: what general problems earn. Without torch; scoring functions are given.

Summaries are scored for helpfulness and whole completions for safety (arXiv:2501.12948v2, section 3.1); which of the
two a model sees is the model's own matter.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from r1kit.config.rollouts import RewardSettings
from r1kit.errors import VerifierError
from r1kit.types import Group, Problem, Rollout, Score

GENERAL = "general"
"""The verifier of problems that reward models grade."""
UNPAID = frozenset({"accuracy", "cosine_length"})
"""Parts that a general problem does not earn: they are paid for truth, which outside the nano world nobody knows."""
WITHOUT_SUMMARY = 0.0
"""The part of a completion in which the model finds nothing to grade: its thinking never closed, or nothing follows."""


class Grader(Protocol):
    """A reward model, as far as rewards have to do with it."""

    @property
    def centre(self) -> float:
        """The score that is worth one half."""
        ...

    def seen(self, completion: str) -> str | None:
        """What of a completion it grades; None where there is nothing."""
        ...

    def scores(self, exchanges: Sequence[tuple[Any, str]]) -> list[float]:
        """The score of each (question or conversation, what is seen of the completion)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceRewards:
    """Turns scores into reward parts, and adds them to what the rules pay."""

    graders: Mapping[str, Grader]
    """By the name of the part: `helpfulness`, `safety`."""
    names: Mapping[str, str]
    """Where each of them is from, for messages."""
    weight: float
    rules: RewardSettings
    prompt_ends_with_think: bool = False

    def graded(self, groups: Sequence[Group], *, opening: str = "") -> list[Group]:
        """The groups, those of general problems with their grades; all completions of one model are scored together.

        Raises VerifierError, with the names of problem and model, for a score that is no finite number.
        """
        asked: dict[str, list[tuple[int, int]]] = {}
        for place, group in enumerate(groups):
            if group.problem.verifier == GENERAL:
                part = self.part_of(group.problem)
                asked.setdefault(part, []).extend((place, number) for number in range(len(group.rollouts)))
        parts: dict[tuple[int, int], tuple[str, float]] = {}
        for part, places in asked.items():
            rollouts = [groups[place].rollouts[number] for place, number in places]
            found = self._parts(part, rollouts, opening)
            parts |= {key: (part, value) for key, value in zip(places, found, strict=True)}
        return [
            replace(
                group,
                rollouts=tuple(
                    replace(rollout, score=self._score(rollout, *parts[place, number]))
                    for number, rollout in enumerate(group.rollouts)
                ),
            )
            if group.problem.verifier == GENERAL
            else group
            for place, group in enumerate(groups)
        ]

    def part_of(self, problem: Problem) -> str:
        """The part that a general problem earns; raise VerifierError where nobody grades it."""
        part = problem.meta.get("reward_model")
        if part not in self.graders:
            raise VerifierError(
                f"problem {problem.id!r} wants the reward model {part!r}, and the recipe names none; "
                f"it has {', '.join(self.graders)}: set preference.{part}"
            )
        return str(part)

    def _parts(self, part: str, rollouts: Sequence[Rollout], opening: str) -> list[float]:
        """sigmoid(score - centre) of each completion: the chance that it is preferred to a middling one, or safe."""
        grader = self.graders[part]
        written = "<think>" if self.prompt_ends_with_think else ""
        seen = [grader.seen(f"{written}{opening}{rollout.completion.text}") for rollout in rollouts]
        exchanges = [
            (rollout.problem.messages or rollout.problem.prompt, text)
            for rollout, text in zip(rollouts, seen, strict=True)
            if text is not None
        ]
        scores = iter(grader.scores(exchanges))
        values = []
        for rollout, text in zip(rollouts, seen, strict=True):
            score = next(scores) if text is not None else -math.inf
            if text is not None and not math.isfinite(score):
                raise VerifierError(
                    f"problem {rollout.problem.id!r}: the {part} model {self.names[part]} scored {score}, which is no "
                    "finite number; train it again, with a lower optimizer.lr"
                )
            values.append(sigmoid(score - grader.centre) if text is not None else WITHOUT_SUMMARY)
        return values

    def _score(self, rollout: Rollout, part: str, value: float) -> Score:
        score = rollout.score
        by_rule = sum(getattr(self.rules, name) * paid for name, paid in score.parts.items() if name not in UNPAID)
        is_forfeit = self.rules.zero_truncated and rollout.completion.is_truncated
        total = 0.0 if is_forfeit else by_rule + self.weight * value
        return replace(score, parts={**score.parts, part: value}, total=total)


def sigmoid(score: float) -> float:
    """1 / (1 + e^-score), whatever its size."""
    return 1 / (1 + math.exp(-score)) if score >= 0 else math.exp(score) / (1 + math.exp(score))
