"""Verifiers: is this answer right? Truth and nothing else; what it is worth is decided in `rewards.combine`."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass

from r1kit.errors import VerifierError
from r1kit.tasks import FAMILIES
from r1kit.types import Problem, Verdict


@dataclass(frozen=True, slots=True)
class Verifier:
    """How one kind of answer is read and judged."""

    parse: Callable[[str], object]
    """What an answer says; None where it can't be read."""
    is_right: Callable[[str, Problem], bool]


VERIFIERS = {name: Verifier(family.parse, family.is_right) for name, family in FAMILIES.items()}


def find_verifier(name: str) -> Verifier:
    """The verifier of that name; raise VerifierError with the nearest known name where there is none."""
    if name not in VERIFIERS:
        close = difflib.get_close_matches(name, VERIFIERS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(VERIFIERS))}"
        raise VerifierError(f"unknown verifier {name!r}{hint}")
    return VERIFIERS[name]


def verify(answer: str | None, problem: Problem) -> Verdict:
    """RIGHT or WRONG; an answer that is missing or can't be read is WRONG."""
    verifier = find_verifier(problem.verifier)
    return Verdict.RIGHT if answer is not None and verifier.is_right(answer, problem) else Verdict.WRONG
