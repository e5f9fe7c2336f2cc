"""Generated problems: families with a difficulty dial, endless, each with a small safe verifier of its own."""

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from r1kit.errors import VerifierError
from r1kit.tasks import arithmetic, chains, countdown, general, logic, ordering, pairs, sums
from r1kit.types import Problem

Split = Literal["train", "held_out"]


@dataclass(frozen=True, slots=True)
class Family:
    """A family of problems: how to make one, how to read an answer, and how to tell whether it is right."""

    make: Callable[..., Problem]
    parse: Callable[[str], object]
    """What an answer says, or None where it can't be read: prose, nothing, too long."""
    is_right: Callable[[str, Problem], bool]


FAMILIES = {
    "chains": Family(chains.make, chains.parse, chains.is_right),
    "sums": Family(sums.make, chains.parse, chains.is_right),
    "pairs": Family(pairs.make, pairs.parse, pairs.is_right),
    "countdown": Family(countdown.make, countdown.parse, countdown.is_right),
    "ordering": Family(ordering.make, ordering.parse, ordering.is_right),
    "logic": Family(logic.make, logic.parse, logic.is_right),
    "arithmetic": Family(arithmetic.make, arithmetic.parse, arithmetic.is_right),
    "general": Family(general.make, general.parse, general.is_right),
}


def split_of(problem_id: str) -> Split:
    """The split that a generated problem belongs to: a fifth of all contents is held out, whatever the language.

    What stands after `=` (the target of a search) does not count: all problems about the same numbers go together, so
    that whoever has seen one of them has not seen another of the other split.
    """
    return "held_out" if zlib.crc32(problem_id.partition("=")[0].encode()) % 5 == 0 else "train"


def validate(problems: Sequence[Problem], *, seed: str) -> None:
    """Run each problem's verifier on its gold and on mutilated golds; raise VerifierError where it is wrong.

    Only the families' own verifiers: problems that name another one, or have no gold, are passed over.
    """
    rng = random.Random(seed)
    for problem in problems:
        if problem.verifier not in FAMILIES or not problem.gold:
            continue
        is_right = FAMILIES[problem.verifier].is_right
        if not is_right(problem.gold, problem):
            raise VerifierError(
                f"verifier {problem.verifier!r} refuses the gold {problem.gold!r} of {problem.prompt!r}"
            )
        for answer in mutilations(problem.gold, rng):
            if is_right(answer, problem):
                raise VerifierError(f"verifier {problem.verifier!r} accepts {answer!r} for {problem.prompt!r}")


def mutilations(gold: str, rng: random.Random) -> list[str]:
    """Answers that are wrong for certain: one sign changed, cut, doubled, buried in prose, hostile, or none."""
    place = rng.randrange(len(gold))
    alphabet = "0123456789" if gold[place].isdigit() else "+-*" if gold[place] in "+-*" else "IJKLMNOP"
    other = rng.choice([sign for sign in alphabet if sign != gold[place]])
    return [
        gold[:place] + other + gold[place + 1 :],
        gold[:-1],
        f"{gold} {gold}",
        f"I think that it is {gold}",
        f"__import__('os').system('{gold}')",
        "9**9**9**9",
        "",
        " ",
    ]
