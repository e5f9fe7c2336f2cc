"""Which two of these numbers have this sum? Whoever stops after a try or two mostly guesses wrong."""

import itertools
import random
import re
from collections.abc import Sequence

from r1kit.config.tasks import PairsTask
from r1kit.types import Problem

QUESTION = {"en": "Pick two of {numbers} with sum {target}", "zh": "从{numbers}选两数和为{target}"}


def make(task: PairsTask, rng: random.Random, language: str) -> Problem:
    """Distinct numbers of which exactly one pair has the target as its sum."""
    while True:
        numbers = rng.sample(range(1, task.largest + 1), task.numbers)
        sums = [left + right for left, right in itertools.combinations(numbers, 2)]
        unique = [total for total in sums if sums.count(total) == 1]
        if unique:
            break
    target = rng.choice(unique)
    left, right = next(pair for pair in itertools.combinations(numbers, 2) if sum(pair) == target)
    return Problem(
        id=problem_id(numbers, target),
        prompt=QUESTION[language].format(numbers=" ".join(map(str, numbers)), target=target),
        gold=f"{left}+{right}",
        verifier="pairs",
        language=language,
        meta={"numbers": tuple(numbers), "target": target, "difficulty": task.numbers},
    )


def problem_id(numbers: Sequence[int], target: int | None) -> str:
    """Names the numbers, in any order, and the target."""
    return f"pairs/{'-'.join(map(str, sorted(numbers)))}={target}"


def parse(answer: str) -> tuple[int, int] | None:
    """The two numbers of `a+b`; None where the answer is not of that form."""
    match = re.fullmatch(r"\s{0,9}([0-9]{1,3}) ?\+ ?([0-9]{1,3})\s{0,9}", answer)
    return (int(match[1]), int(match[2])) if match else None


def is_right(answer: str, problem: Problem) -> bool:
    """True where the answer is two different numbers of the problem that have the target as sum."""
    pair = parse(answer)
    if pair is None or pair[0] == pair[1] or sum(pair) != problem.meta["target"]:
        return False
    return all(number in problem.meta["numbers"] for number in pair)
