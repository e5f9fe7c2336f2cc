"""The `general` verifier: prompts without a gold, judged by the rule of the nano world, or by reward models alone."""

from dataclasses import dataclass

from r1kit.languages.invisible import is_blank
from r1kit.rewards.format import answer_block
from r1kit.rewards.verifiers.protocol import Judgement
from r1kit.tasks.general_truth import MAX_CHARS, RIGHT_FROM, answer_truth, parse
from r1kit.types import Problem, Verdict


@dataclass(frozen=True, slots=True)
class GeneralVerifier:
    """RIGHT where the truth of the answer is 0.75 or more; `detail["truth"]` says how much it is.

    Problems of files have no truth: nothing is right, and reward models alone grade what is there.
    """

    def extract(self, text: str, problem: Problem) -> str | None:
        """The inside of the only answer block, else all that follows the thinking."""
        visible = text.rpartition("</think>")[2]
        if "<think>" in visible:
            return None
        block = answer_block(visible)
        answer = visible if block is None else block
        return None if is_blank(answer) else answer

    def judge(self, answer: str, problem: Problem) -> Judgement:
        """By the rule, where the problem is of the generated world."""
        if "accepts" not in problem.meta:
            return Judgement(verdict=Verdict.WRONG, reason="no rule judges this", is_readable=not is_blank(answer))
        if parse(answer) is None:
            reason = f"longer than {MAX_CHARS} characters" if len(answer) > MAX_CHARS else "cannot be read"
            return Judgement(verdict=Verdict.WRONG, reason=reason, is_readable=False, detail={"truth": 0.0})
        truth = answer_truth(answer, problem)
        is_right = truth >= RIGHT_FROM
        return Judgement(
            verdict=Verdict.RIGHT if is_right else Verdict.WRONG,
            reason="" if is_right else f"its truth is {truth:.2f}",
            detail={"truth": truth},
        )
