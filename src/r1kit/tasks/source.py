"""Where a run's problems come from, one iteration after the other.

source = make_source(recipe.tasks, recipe.curriculum, seed=recipe.seed)
problems = source.sample(16, seed="0/iteration-3", split="train")
source.record(groups)
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from r1kit.config.curriculum import CurriculumConfig, EvenCurriculum, SolveRateCurriculum
from r1kit.config.tasks import FileTask, TaskConfig
from r1kit.errors import DataError
from r1kit.tasks.families import Split
from r1kit.tasks.filters import SetReport
from r1kit.tasks.pools import Deck, Family, PassesOver, Pool
from r1kit.tasks.problem_sets import load_problems
from r1kit.tasks.solve_rates import SolveRates, solve_rate_of
from r1kit.types import Group, Problem

MAX_FRUITLESS_DRAWS = 2000
"""Draws in a row without a new problem, after which the tasks count as exhausted."""
KNOBS = {"train": "rollouts.problems_per_iteration", "held_out": "evaluation.num_problems"}


def make_source(
    tasks: Sequence[TaskConfig], curriculum: CurriculumConfig | None = None, *, seed: int | str
) -> "ProblemSource":
    """The source of a recipe's tasks, at its beginning; raise DataError where two of them contradict each other."""
    golds: dict[str, tuple[str, str]] = {}
    for task in _file_tasks(tasks):
        problems, where = load_problems(task), load_problems(task).report.where
        for problem in (*problems.train, *problems.held_out):
            other, gold = golds.setdefault(problem.id, (where, problem.gold))
            if gold != problem.gold:
                raise DataError(
                    f"{where} and {other} both have a problem {problem.id!r}, with answers {problem.gold!r} and "
                    f"{gold!r}: an id must name one problem; rename a file, or name another field with fields.id"
                )
    return ProblemSource(tasks, curriculum or EvenCurriculum(), seed)


class ProblemSource:
    """Problems of several tasks, mixed by weight; what training draws moves on, what tests draw does not.

    Files are dealt in shuffled epochs, so that every problem is visited about as often as any other; generated
    problems are made anew. With a curriculum by solve rate, `record` says how groups went.
    """

    def __init__(self, tasks: Sequence[TaskConfig], curriculum: CurriculumConfig, seed: int | str) -> None:
        """Begin at the beginning; files are read now."""
        self._tasks = tuple(tasks)
        self._num_open = len(self._tasks)
        self._rates = SolveRates(curriculum) if isinstance(curriculum, SolveRateCurriculum) else None
        passes_over = self._rates.passes_over if self._rates else None
        self._pools = _pools(self._tasks, "train", seed=f"{seed}/tasks", passes_over=passes_over)
        self._origins: dict[str, str] = {}
        """The tasks of generated problems that were drawn and not yet recorded."""

    def sample(self, num_problems: int, *, seed: str, split: Split) -> list[Problem]:
        """`num_problems` different problems of one split; the same for the same seed, state and split.

        Held-out ones do not depend on the state. Raises DataError where there are fewer.
        """
        if split == "held_out":
            return sample_problems(self._tasks, num_problems, seed=seed, split=split)
        tasks, pools = self._tasks[: self._num_open], self._pools[: self._num_open]
        weights = [task.weight * self._share(place) for place, task in enumerate(tasks)]
        drawn = _draw(pools, weights, num_problems, rng=random.Random(f"{seed}/{split}"), split=split)
        if self._rates:
            is_made = {place for place, pool in enumerate(self._pools) if isinstance(pool, Family)}
            self._origins |= {problem.id: _task_name(place) for place, problem in drawn if place in is_made}
        return [problem for _, problem in drawn]

    def open(self, num_tasks: int) -> None:
        """Training draws from the first so many tasks only; the others wait at their beginning."""
        self._num_open = num_tasks

    def record(self, groups: Sequence[Group]) -> None:
        """Learn how often the problems of these groups were solved; without a curriculum, nothing."""
        if self._rates is None:
            return
        for group in groups:
            rate = solve_rate_of(group)
            if rate is not None:
                self._rates.learn(self._origins.get(group.problem.id, group.problem.id), rate)
        self._origins = {}

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs to go on exactly, as plain values."""
        decks = {_task_name(place): pool.state() for place, pool in enumerate(self._pools) if isinstance(pool, Deck)}
        return {"decks": decks, "solve_rates": self._rates.state() if self._rates else {}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; an empty one is the beginning. Raises DataError where it belongs to other data."""
        if not state:
            return
        for place, pool in enumerate(self._pools):
            if isinstance(pool, Deck):
                if _task_name(place) not in state["decks"]:
                    raise DataError(f"the checkpoint knows nothing of {_task_name(place)}; begin a new run")
                pool.load_state(state["decks"][_task_name(place)])
        if self._rates:
            self._rates.load_state(state["solve_rates"])

    def _share(self, place: int) -> float:
        """How much of its weight a generated task keeps; files are chosen from problem by problem."""
        is_adapted = self._rates is not None and isinstance(self._pools[place], Family)
        return self._rates.share(_task_name(place)) if self._rates and is_adapted else 1.0


def sample_problems(tasks: Sequence[TaskConfig], num_problems: int, *, seed: str, split: Split) -> list[Problem]:
    """`num_problems` different problems of one split, drawn from the tasks by weight; the same for the same seed.

    Raises DataError where the tasks hold fewer different problems than that.
    """
    pools, weights = _pools(tasks, split, seed=f"{seed}/{split}"), [task.weight for task in tasks]
    drawn = _draw(pools, weights, num_problems, rng=random.Random(f"{seed}/{split}"), split=split)
    return [problem for _, problem in drawn]


def reports_of(tasks: Sequence[TaskConfig]) -> list[SetReport]:
    """What became of the rows of each file and data set."""
    return [load_problems(task).report for task in _file_tasks(tasks)]


def verifiers_of(tasks: Sequence[TaskConfig]) -> dict[str, str]:
    """Every verifier that problems of these tasks name, and where: files whole, generated tasks by one problem."""
    found: dict[str, str] = {}
    for place, task in enumerate(tasks):
        if isinstance(task, FileTask):
            loaded = load_problems(task)
            names = dict.fromkeys(problem.verifier for problem in (*loaded.train, *loaded.held_out))
            found |= {name: loaded.report.where for name in names if name not in found}
        else:
            problem = sample_problems([task], 1, seed="verifier", split="train")[0]
            found.setdefault(problem.verifier, _task_name(place))
    return found


def longest_problems(tasks: Sequence[TaskConfig], num_problems: int) -> list[Problem]:
    """The problems of files with the most characters to read: where a prompt does not fit, it is one of these."""
    loaded = [load_problems(task) for task in _file_tasks(tasks)]
    problems = [problem for found in loaded for problem in (*found.train, *found.held_out)]
    return sorted(problems, key=_num_chars, reverse=True)[:num_problems]


def _num_chars(problem: Problem) -> int:
    return sum(len(message["content"]) for message in problem.messages) or len(problem.prompt)


def _file_tasks(tasks: Sequence[TaskConfig]) -> list[FileTask]:
    return [task for task in tasks if isinstance(task, FileTask)]


def _task_name(place: int) -> str:
    return f"tasks.{place}"


def _pools(
    tasks: Sequence[TaskConfig], split: Split, *, seed: str, passes_over: PassesOver | None = None
) -> list[Family | Deck]:
    return [
        Deck(load_problems(task).of(split), seed=f"{seed}/{place}", passes_over=passes_over)
        if isinstance(task, FileTask)
        else Family(task, split)
        for place, task in enumerate(tasks)
    ]


def _draw(
    pools: Sequence[Pool], weights: Sequence[float], num_problems: int, *, rng: random.Random, split: Split
) -> list[tuple[int, Problem]]:
    """Different problems, each after the place of its pool; where a pool is spent, the others fill in."""
    problems: dict[str, tuple[int, Problem]] = {}
    fruitless = 0
    while len(problems) < num_problems:
        left = [place for place, pool in enumerate(pools) if not pool.is_spent(problems)]
        if not left or fruitless == MAX_FRUITLESS_DRAWS:
            raise DataError(_too_few(pools, len(problems), num_problems, split))
        place = rng.choices(left, [weights[place] for place in left])[0]
        problem = pools[place].draw(rng, problems)
        if problem is not None:
            problems[problem.id] = place, problem
        fruitless = 0 if problem is not None else fruitless + 1
    return list(problems.values())


def _too_few(pools: Sequence[Pool], found: int, num_problems: int, split: Split) -> str:
    sizes = {_task_name(place): len(pool.problems) for place, pool in enumerate(pools) if isinstance(pool, Deck)}
    held = f" ({', '.join(f'{name} holds {size:,}' for name, size in sizes.items())})" if sizes else ""
    knob = f"ask for fewer ({KNOBS[split]})"
    more = "give a file a share of them with held_out or held_out_path" if split == "held_out" else "add more tasks"
    what_else = more if sizes else "raise the difficulty of the tasks"
    return (
        f"only {found} different {split} problems found for the {num_problems} asked for{held}; {knob} or {what_else}"
    )
