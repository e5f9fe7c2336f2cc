"""Small Countdown: put +, - or * between three numbers so that the target comes out."""

import itertools
import random
import re
from collections.abc import Sequence

from r1kit.config.tasks import CountdownTask
from r1kit.types import Problem

QUESTION = {"en": "Make {target} from {numbers}", "zh": "用{numbers}得到{target}"}
OPERATORS = "+-*"


def value_of(expression: str) -> int | None:
    """The value of one-digit numbers joined by +, - and * (times binds tighter); None where the text is none.

    A parser of our own: text that a model wrote is never evaluated.
    """
    if re.fullmatch(r"[0-9](?:[-+*][0-9]){0,7}", expression) is None:
        return None
    total = 0
    for sign, product in re.findall(r"([-+]?)([0-9](?:\*[0-9])*)", expression):
        factor = 1
        for digit in product.split("*"):
            factor *= int(digit)
        total += -factor if sign == "-" else factor
    return total


def expressions(numbers: tuple[int, ...]) -> list[str]:
    """Every way to put an operator between the numbers, in a fixed order."""
    return [
        "".join(f"{operator}{number}" for operator, number in zip(("", *operators), numbers, strict=True))
        for operators in itertools.product(OPERATORS, repeat=len(numbers) - 1)
    ]


def make(task: CountdownTask, rng: random.Random, language: str) -> Problem:
    """Three numbers and a target that is not negative and that exactly one choice of operators reaches."""
    while True:
        numbers = tuple(rng.randint(1, task.largest) for _ in range(3))
        choices = expressions(numbers)
        values = [value_of(choice) for choice in choices]
        golds = [
            choice
            for choice, value in zip(choices, values, strict=True)
            if value is not None and value >= 0 and values.count(value) == 1
        ]
        if golds:
            break
    gold = rng.choice(golds)
    target = value_of(gold)
    return Problem(
        id=problem_id(numbers, target),
        prompt=QUESTION[language].format(numbers=" ".join(map(str, numbers)), target=target),
        gold=gold,
        verifier="countdown",
        language=language,
        meta={"numbers": numbers, "target": target, "difficulty": task.largest},
    )


def problem_id(numbers: Sequence[int], target: int | None) -> str:
    """Names the numbers, in their order, and the target."""
    return f"countdown/{'-'.join(map(str, numbers))}={target}"


def parse(answer: str) -> str | None:
    """The expression without spaces; None where the answer is none."""
    expression = answer[:64].replace(" ", "").strip()
    return None if value_of(expression) is None or len(answer) > 64 else expression


def is_right(answer: str, problem: Problem) -> bool:
    """True where the answer uses the numbers in their order, once each, and its value is the target."""
    expression = parse(answer)
    if expression is None:
        return False
    digits = tuple(int(digit) for digit in re.findall("[0-9]", expression))
    return digits == tuple(problem.meta["numbers"]) and value_of(expression) == problem.meta["target"]
