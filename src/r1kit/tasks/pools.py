"""Where the next problem comes from: a family that makes it, or a deck of problems that is dealt and shuffled again."""

import random
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Protocol

from r1kit.config.tasks import GeneratedTask
from r1kit.errors import DataError
from r1kit.tasks.families import FAMILIES, Split, split_of
from r1kit.tasks.rows import digest_of
from r1kit.types import Problem

PassesOver = Callable[[Problem, random.Random], bool]
"""True where a problem is not wanted this time."""


class Pool(Protocol):
    """Problems of one task and one split."""

    def draw(self, rng: random.Random, taken: Container[str]) -> Problem | None:
        """A problem whose id is not taken; None where this draw brought none."""
        ...

    def is_spent(self, taken: Container[str]) -> bool:
        """True where every problem is taken."""
        ...


class Family:
    """The endless problems of a generated task."""

    def __init__(self, task: GeneratedTask, split: Split) -> None:
        """Make problems of one split."""
        self._task, self._split = task, split

    def draw(self, rng: random.Random, taken: Container[str]) -> Problem | None:
        """Make one; None where it is of the other split, or taken."""
        problem = FAMILIES[self._task.kind].make(self._task, rng, rng.choice(self._task.languages))
        return problem if split_of(problem.id) == self._split and problem.id not in taken else None

    def is_spent(self, taken: Container[str]) -> bool:
        """Nobody knows."""
        return False


class Deck:
    """A finite set in shuffled epochs: every problem is dealt once before any is dealt again.

    The order of an epoch depends on the seed and its number alone, so the state is a place in it, and the few problems
    that were put aside because they were taken already when their turn came.
    """

    def __init__(self, problems: Sequence[Problem], *, seed: str, passes_over: PassesOver | None = None) -> None:
        """Begin with the first epoch; a problem that `passes_over` rejects waits for the next one."""
        self.problems = problems
        self._seed, self._passes_over = seed, passes_over
        self._put_aside: list[int] = []
        self._begin_epoch(0)

    def draw(self, rng: random.Random, taken: Container[str]) -> Problem | None:
        """The next problem that is not taken. Not for a deck that is spent: there is none."""
        for index in self._put_aside:
            if self.problems[index].id not in taken:
                self._put_aside.remove(index)
                return self.problems[index]
        num_passed = 0
        while True:
            index = self._deal()
            problem = self.problems[index]
            if problem.id in taken:
                if index not in self._put_aside:
                    self._put_aside.append(index)
            # After a whole turn of the deck nothing better can be hoped for.
            elif self._passes_over and num_passed < len(self.problems) and self._passes_over(problem, rng):
                num_passed += 1
            else:
                return problem

    def is_spent(self, taken: Container[str]) -> bool:
        """True where every problem is taken."""
        return all(problem.id in taken for problem in self.problems)

    def state(self) -> dict[str, Any]:
        """The place in the deck, as plain values."""
        return {
            "num_problems": len(self.problems),
            "digest": self._digest(),
            "epoch": self._epoch,
            "position": self._position,
            "put_aside": list(self._put_aside),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a place; raise DataError where it is a place in other problems."""
        if (state["num_problems"], state["digest"]) != (len(self.problems), self._digest()):
            raise DataError(
                f"the data has changed since the checkpoint: {state['num_problems']:,} problems then, "
                f"{len(self.problems):,} now, or other ones; restore the file, or begin a new run"
            )
        self._begin_epoch(state["epoch"])
        self._position, self._put_aside = state["position"], list(state["put_aside"])

    def _deal(self) -> int:
        if self._position == len(self._order):
            self._begin_epoch(self._epoch + 1)
        self._position += 1
        return self._order[self._position - 1]

    def _begin_epoch(self, epoch: int) -> None:
        self._epoch, self._position = epoch, 0
        self._order = list(range(len(self.problems)))
        random.Random(f"{self._seed}/epoch-{epoch}").shuffle(self._order)

    def _digest(self) -> str:
        return f"{digest_of(chr(10).join(f'{problem.id} {problem.gold}' for problem in self.problems)):016x}"
