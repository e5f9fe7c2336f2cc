"""How often problems are solved, as far as a run has seen: what a curriculum goes by."""

import random
from collections.abc import Mapping
from typing import Any

from r1kit.config.curriculum import SolveRateCurriculum
from r1kit.types import Group, Problem, Verdict


def solve_rate_of(group: Group) -> float | None:
    """The share of right completions among those with a verdict; None where no verdict is known."""
    verdicts = [rollout.score.verdict for rollout in group.rollouts]
    known = [verdict for verdict in verdicts if verdict is not Verdict.UNKNOWN]
    return sum(verdict is Verdict.RIGHT for verdict in known) / len(known) if known else None


class SolveRates:
    """Running solve rates by name, and the rule that follows from them."""

    def __init__(self, curriculum: SolveRateCurriculum) -> None:
        """Know nothing yet."""
        self._curriculum = curriculum
        self._rates: dict[str, float] = {}

    def learn(self, name: str, rate: float) -> None:
        """Take a group's solve rate in; the first one counts as it is."""
        before = self._rates.get(name, rate)
        self._rates[name] = self._curriculum.memory * before + (1 - self._curriculum.memory) * rate

    def share(self, name: str, first_guess: object = None) -> float:
        """How often to draw it beside what lies in the band: 1, or `exploration`; 1 where nothing is known."""
        guess = first_guess if isinstance(first_guess, int | float) else None
        rate = self._rates.get(name, guess)
        is_inside = rate is None or self._curriculum.lowest <= rate <= self._curriculum.highest
        return 1.0 if is_inside else self._curriculum.exploration

    def passes_over(self, problem: Problem, rng: random.Random) -> bool:
        """True where the problem is not wanted this time; a solve rate from its file serves until there is a better."""
        share = self.share(problem.id, problem.meta.get("solve_rate"))
        return share < 1 and rng.random() >= share

    def state(self) -> dict[str, float]:
        """Every rate by name."""
        return dict(self._rates)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from rates."""
        self._rates = {name: float(rate) for name, rate in state.items()}
