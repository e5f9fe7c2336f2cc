"""What every verifier is: it finds the answer in a completion, and says whether it is right."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from r1kit.rewards.format import answer_block
from r1kit.types import Problem, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a verifier says of one answer."""

    verdict: Verdict
    reason: str = ""
    """Why it is not right, in a few words; for UNKNOWN always given."""
    is_readable: bool = True
    """False where the answer is nothing of the kind that was asked for (prose, nothing, too long)."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """What else is known: tests passed, the layer that decided."""


class Verifier(Protocol):
    """One kind of answer. Stateless, quick to make, safe in any thread; it never runs what a model wrote."""

    def extract(self, text: str, problem: Problem) -> str | None:
        """The answer in `text`, which is what follows the thinking, tags included; None where there is none."""
        ...

    def judge(self, answer: str, problem: Problem) -> Judgement:
        """RIGHT or WRONG, whatever the answer holds; UNKNOWN where the gold can't be read or the verifier failed.

        Raises VerifierError for a problem that this verifier can't judge at all (a field is missing).
        """
        ...


@dataclass(frozen=True, slots=True)
class FamilyVerifier:
    """The verifier of a generated family: the answer is what stands in the one answer block."""

    parse: Callable[[str], object]
    """What an answer says; None where it can't be read."""
    is_right: Callable[[str, Problem], bool]

    def extract(self, text: str, problem: Problem) -> str | None:
        """The inside of the only answer block."""
        return answer_block(text)

    def judge(self, answer: str, problem: Problem) -> Judgement:
        """By the family's own rule."""
        if self.parse(answer) is None:
            return Judgement(verdict=Verdict.WRONG, reason="cannot be read", is_readable=False)
        return Judgement(verdict=Verdict.RIGHT if self.is_right(answer, problem) else Verdict.WRONG)
