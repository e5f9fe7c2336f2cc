"""Chains of sums and differences: no single step is hard, but one slip spoils the rest."""

import random
import re

from r1kit.config.tasks import ChainsTask
from r1kit.types import Problem

QUESTION = {"en": "Compute {chain}", "zh": "计算{chain}"}


def make(task: ChainsTask, rng: random.Random, language: str) -> Problem:
    """A chain of one-digit numbers whose running value stays between 0 and 99."""
    value = rng.randint(1, 9)
    chain = str(value)
    for _ in range(task.terms - 1):
        number = rng.randint(1, 9)
        sign = "-" if (value >= number and rng.random() < 0.35) or value + number > 99 else "+"
        value += number if sign == "+" else -number
        chain += f"{sign}{number}"
    return Problem(
        id=f"chains/{chain}",
        prompt=QUESTION[language].format(chain=chain),
        gold=str(value),
        verifier="chains",
        language=language,
        meta={"chain": chain, "difficulty": task.terms},
    )


def parse(answer: str) -> int | None:
    """The integer that the answer is; None where it is none."""
    return int(answer) if re.fullmatch(r"\s{0,9}-?[0-9]{1,9}\s{0,9}", answer) else None


def is_right(answer: str, problem: Problem) -> bool:
    """True where the answer is the integer that the gold is."""
    return parse(answer) == int(problem.gold)
