"""Arithmetic as people ask it: 'What is 47 + 38?' For real language models; judged by the `math` verifier."""

import random
import re
from collections.abc import Sequence

from r1kit.config.tasks import ArithmeticTask
from r1kit.types import Problem

QUESTIONS = {
    "en": ("What is {expression}?", "Calculate {expression}.", "Find the value of {expression}."),
    "zh": ("{expression} 等于多少？", "计算 {expression}。", "求 {expression} 的值。"),
}


def make(task: ArithmeticTask, rng: random.Random, language: str) -> Problem:
    """Numbers joined by signs, times and divided-by binding tighter; every quotient on the way is an integer."""
    low, high = (1, task.largest) if task.largest else (10 ** (task.digits - 1), 10**task.digits - 1)
    numbers = [rng.randint(low, high) for _ in range(task.terms)]
    signs = [rng.choice(task.operations) for _ in range(task.terms - 1)]
    question = task.question or rng.choice(QUESTIONS[language])
    total, start = 0, 0
    while start < len(numbers):
        end = next((place for place in range(start + 1, len(numbers)) if signs[place - 1] in "+-"), len(numbers))
        value = _make_exact(numbers, signs, start, end)
        total += -value if start and signs[start - 1] == "-" else value
        start = end
    joined = "".join(f" {sign} {number}" for sign, number in zip(("", *signs), numbers, strict=True))
    expression = joined.strip()
    return Problem(
        id=f"arithmetic/{expression.replace(' ', '')}",
        prompt=question.replace("{expression}", expression),
        gold=str(total),
        verifier="math",
        language=language,
        meta={
            "expression": expression,
            "difficulty": len(str(high)) * task.terms,
            "verifier_options": task.verifier_options,
        },
    )


def _make_exact(numbers: list[int], signs: Sequence[str], start: int, end: int) -> int:
    """Multiply the first number of a product by all its divisors; returns the product's value."""
    value = numbers[start]
    for place in range(start + 1, end):
        if signs[place - 1] == "/":
            numbers[start] *= numbers[place]
        else:
            value *= numbers[place]
    return value


def parse(answer: str) -> int | None:
    """The integer that the answer is; None where it is none."""
    return int(answer) if re.fullmatch(r"\s{0,9}-?[0-9]{1,60}\s{0,9}", answer) else None


def is_right(answer: str, problem: Problem) -> bool:
    """True where the answer is the integer that the gold is."""
    return parse(answer) == int(problem.gold)
