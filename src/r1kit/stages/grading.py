"""The word of a judge for completions that rules can't grade (arXiv:2501.12948v2, B.3.3)."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from r1kit.config.rejection import EndpointJudge, JudgeConfig
from r1kit.rewards.format import split_thinking
from r1kit.stages.asking import Asking, Endpoint
from r1kit.stages.candidates import Candidate
from r1kit.stages.filters import is_finished
from r1kit.stages.judge import by_rule, read_correctness, reference_prompt
from r1kit.types import Verdict

Grades = Mapping[str, Verdict]
"""What a judge says, by the names of candidates."""


def needs_judge(candidate: Candidate, judge: JudgeConfig) -> bool:
    """True where the verifier could not tell, or is one whose `wrong` is to be judged again; never without a gold."""
    verdict = candidate.verdict
    is_open = verdict is Verdict.UNKNOWN or (
        verdict is Verdict.WRONG and candidate.problem.verifier in judge.instead_of
    )
    return is_open and bool(candidate.problem.gold) and is_finished(candidate)


def grades_of(candidates: Iterable[Candidate], judge: JudgeConfig | None, asking: Asking, *, seed: str) -> Grades:
    """The judge's verdicts on those candidates that need one."""
    if judge is None:
        return {}
    needing = [candidate for candidate in candidates if needs_judge(candidate, judge)]
    return grades_of_texts([(candidate, candidate.text) for candidate in needing], judge, asking, seed=seed)


def grades_of_texts(texts: Iterable[tuple[Candidate, str]], judge: JudgeConfig, asking: Asking, *, seed: str) -> Grades:
    """The judge's verdicts on texts in the place of candidates' own; what stands before the answer is not shown."""
    shown = [(candidate, split_thinking(text)[1]) for candidate, text in texts]
    if not isinstance(judge, EndpointJudge):
        return {candidate.id: by_rule(candidate.problem.gold, answer, judge) for candidate, answer in shown}
    prompts = [
        (candidate.id, reference_prompt(candidate.problem.prompt, candidate.problem.gold, answer))
        for candidate, answer in shown
    ]
    if not prompts:
        return {}
    replies = asking.asked(prompts, Endpoint(judge.endpoint, seed=seed), judge.endpoint, "judging")
    return {name: read_correctness(reply) for (name, _), reply in zip(prompts, replies, strict=True)}


def graded(candidate: Candidate, grades: Grades) -> Candidate:
    """The candidate with the judge's verdict, where there is one."""
    verdict = grades.get(candidate.id)
    return candidate if verdict is None else replace(candidate, verdict=verdict, by_judge=True)
