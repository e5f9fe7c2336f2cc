"""Verifiers: is this answer right? Truth and nothing else; what it is worth is decided in `rewards.combine`."""

import difflib

from r1kit.errors import VerifierError
from r1kit.rewards.verifiers.choice import ChoiceVerifier
from r1kit.rewards.verifiers.code import CodeVerifier
from r1kit.rewards.verifiers.exact import ExactVerifier
from r1kit.rewards.verifiers.expression import ExpressionVerifier
from r1kit.rewards.verifiers.general import GeneralVerifier
from r1kit.rewards.verifiers.instruction import InstructionVerifier
from r1kit.rewards.verifiers.json_schema import JSONVerifier
from r1kit.rewards.verifiers.math import MathVerifier
from r1kit.rewards.verifiers.protocol import FamilyVerifier, Judgement, Verifier
from r1kit.tasks import FAMILIES
from r1kit.types import Problem, Verdict

__all__ = ["VERIFIERS", "Judgement", "Verifier", "find_verifier", "judge", "verify"]

VERIFIERS: dict[str, Verifier] = {
    **{name: FamilyVerifier(family.parse, family.is_right) for name, family in FAMILIES.items()},
    "general": GeneralVerifier(),
    "math": MathVerifier(),
    "code": CodeVerifier(),
    "choice": ChoiceVerifier(),
    "exact": ExactVerifier(),
    "expression": ExpressionVerifier(),
    "instruction": InstructionVerifier(),
    "json": JSONVerifier(),
}


def find_verifier(name: str) -> Verifier:
    """The verifier of that name; raise VerifierError with the nearest known name where there is none."""
    if name not in VERIFIERS:
        close = difflib.get_close_matches(name, VERIFIERS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(VERIFIERS))}"
        raise VerifierError(f"unknown verifier {name!r}{hint}")
    return VERIFIERS[name]


def judge(answer: str | None, problem: Problem) -> Judgement:
    """What the problem's verifier says of an answer; none at all is wrong."""
    if answer is None:
        return Judgement(verdict=Verdict.WRONG, reason="no answer", is_readable=False)
    return find_verifier(problem.verifier).judge(answer, problem)


def verify(answer: str | None, problem: Problem) -> Verdict:
    """The verdict of `judge` alone."""
    return judge(answer, problem).verdict
