"""One sum of two long numbers: too much for one glance, easy digit by digit."""

import random

from r1kit.config.tasks import SumsTask
from r1kit.types import Problem

QUESTION = {"en": "Sum {left}+{right}", "zh": "求和{left}+{right}"}


def make(task: SumsTask, rng: random.Random, language: str) -> Problem:
    """A sum of two numbers of the same number of digits."""
    low, high = 10 ** (task.digits - 1), 10**task.digits - 1
    left, right = rng.randint(low, high), rng.randint(low, high)
    return Problem(
        id=f"sums/{left}+{right}",
        prompt=QUESTION[language].format(left=left, right=right),
        gold=str(left + right),
        verifier="sums",
        language=language,
        meta={"left": left, "right": right, "difficulty": task.digits},
    )
