"""Numbers to be put in ascending order."""

import random
import re

from r1kit.config.tasks import OrderingTask
from r1kit.types import Problem

QUESTION = {"en": "Sort {numbers}", "zh": "排序{numbers}"}


def make(task: OrderingTask, rng: random.Random, language: str) -> Problem:
    """Distinct numbers of one or two digits, shuffled."""
    numbers = rng.sample(range(1, 100), task.numbers)
    return Problem(
        id=f"ordering/{'-'.join(map(str, sorted(numbers)))}",
        prompt=QUESTION[language].format(numbers=" ".join(map(str, numbers))),
        gold=" ".join(map(str, sorted(numbers))),
        verifier="ordering",
        language=language,
        meta={"numbers": tuple(numbers), "difficulty": task.numbers},
    )


def parse(answer: str) -> list[int] | None:
    """The numbers of a list, apart by spaces or commas; None where the answer is no such list."""
    if re.fullmatch(r"\s{0,9}[0-9]{1,3}(?:[ ,]{1,2}[0-9]{1,3}){0,31}\s{0,9}", answer) is None:
        return None
    return [int(number) for number in re.findall("[0-9]+", answer)]


def is_right(answer: str, problem: Problem) -> bool:
    """True where the answer lists the numbers of the problem in ascending order."""
    return parse(answer) == sorted(problem.meta["numbers"])
