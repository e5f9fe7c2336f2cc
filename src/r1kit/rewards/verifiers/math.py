"""The `math` verifier: is this answer the gold, however it is written?"""

from dataclasses import dataclass, field

from r1kit.config.verifiers import MathSettings
from r1kit.rewards.verifiers.mathematics.cleaning import clean
from r1kit.rewards.verifiers.mathematics.extraction import find_answer, last_box
from r1kit.rewards.verifiers.mathematics.plain_numbers import plain_number
from r1kit.rewards.verifiers.protocol import Judgement
from r1kit.types import Problem, Verdict


@dataclass(frozen=True, slots=True)
class MathVerifier:
    """Judges by value, not by spelling; cheapest layer first."""

    settings: MathSettings = field(default_factory=MathSettings)

    def extract(self, text: str, problem: Problem) -> str | None:
        """The answer in a completion, from its answer block, its last box, or as the options allow."""
        options = self._options(problem)
        return find_answer(text, stated=options.stated_answer, last=options.last_expression)

    def judge(self, answer: str, problem: Problem) -> Judgement:
        """RIGHT where the answer has the gold's value; UNKNOWN where there is no gold to compare with."""
        options = self._options(problem)
        gold = clean(last_box(problem.gold) or problem.gold)
        if not gold:
            return Judgement(verdict=Verdict.UNKNOWN, reason="the gold is empty")
        if len(answer) > options.max_answer_chars:
            return Judgement(verdict=Verdict.WRONG, reason="too long", is_readable=False)
        given = clean(last_box(answer) or answer)
        if not given:
            return Judgement(verdict=Verdict.WRONG, reason="no answer", is_readable=False)
        if given == gold:
            return Judgement(verdict=Verdict.RIGHT)
        wanted, found = (plain_number(side, max_digits=options.max_digits) for side in (gold, given))
        if wanted is None or found is None:
            return Judgement(verdict=Verdict.WRONG, reason="differs")
        values = {wanted[0], wanted[0] / 100} if wanted[1] else {wanted[0]}
        answers = {found[0], found[0] / 100} if found[1] else {found[0]}
        is_right = bool(values & answers)
        return Judgement(verdict=Verdict.RIGHT if is_right else Verdict.WRONG, reason="" if is_right else "differs")

    def _options(self, problem: Problem) -> MathSettings:
        changed = problem.meta.get("verifier_options")
        return MathSettings(**(self.settings.model_dump() | dict(changed))) if changed else self.settings
