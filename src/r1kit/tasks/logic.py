"""Who is the tallest? Each clue compares two people; the clues come shuffled."""

import itertools
import random

from r1kit.config.tasks import LogicTask
from r1kit.types import Problem

QUESTION = {"en": "Who is tallest: {clues}", "zh": "谁最高:{clues}"}
NAMES = "ABCDEFGH"


def make(task: LogicTask, rng: random.Random, language: str) -> Problem:
    """A chain of comparisons over all people, its clues shuffled, so that exactly one of them is the tallest."""
    people = rng.sample(NAMES, task.people)
    clues = [f"{taller}>{smaller}" for taller, smaller in itertools.pairwise(people)]
    rng.shuffle(clues)
    return Problem(
        id=f"logic/{'>'.join(people)}",
        prompt=QUESTION[language].format(clues=" ".join(clues)),
        gold=people[0],
        verifier="logic",
        language=language,
        meta={"people": tuple(people), "clues": tuple(clues), "difficulty": task.people},
    )


def parse(answer: str) -> str | None:
    """The name that the answer is; None where it is none."""
    name = answer[:16].strip()
    return name if len(answer) <= 16 and len(name) == 1 and name in NAMES else None


def is_right(answer: str, problem: Problem) -> bool:
    """True where the answer is the name of the tallest person and nothing else."""
    return parse(answer) == problem.gold
