"""What an evaluation keeps of each problem, and the figures over many: memory grows with problems, not with text."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from r1kit.evaluation.behaviours import count_behaviours
from r1kit.evaluation.decoding import Decoded, decoded_by_score, decoded_by_vote
from r1kit.evaluation.metrics import mean, pass_at_k, powers_up_to, stderr_of_mean
from r1kit.evaluation.voting import WITHOUT_VOTE, heaps_of, same_answer
from r1kit.tasks.general import truth
from r1kit.types import FinishReason, Problem, Rollout, Verdict

STRATA = ("subject", "level", "difficulty", "grade", "source")
"""Fields of a problem whose values are reported one by one, where a task has more than one of them."""
MAX_STRATA = 40
"""A field with more values than this tells problems apart, not kinds of problems."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What counts of one completion."""

    text: str
    answer: str | None
    """The answer that was judged."""
    verdict: Verdict
    finish_reason: FinishReason
    num_tokens: int
    score: float | None = None
    """What a reward model gives for it, where one is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What counts of one problem: how many of its samples did what."""

    problem_id: str
    strata: Mapping[str, str] = field(default_factory=dict)
    k: int
    known: int
    """Samples with a verdict: right or wrong."""
    right: int
    vote: Decoded | None
    """What the majority's answer is; None for a kind of problem that has no vote."""
    best: Decoded | None = None
    """The completion with the highest score; None without scores."""
    weighted: Decoded | None = None
    """The majority weighed by the scores."""
    truth: float | None = None
    """How good the completions of a prompt of the general world are, on average; None for all other problems."""
    truncated: int
    unclosed: int
    """Samples that open a thinking part and never close it."""
    unanswered: int
    tokens: int
    reflections: int
    mixed: int
    """Samples that reason in another language than the question's."""

    @property
    def share_right(self) -> float:
        """Right ones among the samples with a verdict."""
        return self.right / self.known


def sample_of(rollout: Rollout) -> Sample:
    """What counts of a rollout."""
    return Sample(
        text=rollout.completion.text,
        answer=rollout.score.answer,
        verdict=rollout.score.verdict,
        finish_reason=rollout.completion.finish_reason,
        num_tokens=len(rollout.completion.token_ids),
    )


def outcome_of(
    problem: Problem, samples: Sequence[Sample], *, prompt_ends_with_think: bool = False, by_value: bool = False
) -> Outcome:
    """What counts of a problem; with `by_value`, its votes are counted as its verifier compares answers."""
    behaviours = [count_behaviours(sample.text, language=problem.language) for sample in samples]
    verdicts = [sample.verdict for sample in samples]
    scores = [sample.score for sample in samples if sample.score is not None]
    is_scored = len(scores) == len(samples)
    heaps = None
    if problem.verifier not in WITHOUT_VOTE:
        heaps = heaps_of([s.answer for s in samples], verdicts, same_answer(problem) if by_value else None)
    return Outcome(
        problem_id=problem.id,
        strata=strata_of(problem),
        k=len(samples),
        known=sum(verdict is not Verdict.UNKNOWN for verdict in verdicts),
        right=sum(verdict is Verdict.RIGHT for verdict in verdicts),
        vote=None if heaps is None else decoded_by_vote(heaps, verdicts),
        best=decoded_by_score(scores, verdicts) if is_scored else None,
        weighted=decoded_by_vote(heaps, verdicts, scores) if is_scored and heaps is not None else None,
        truth=mean([truth(s.text, problem) for s in samples]) if "accepts" in problem.meta else None,
        truncated=sum(sample.finish_reason is not FinishReason.STOP for sample in samples),
        unclosed=sum(is_unclosed(sample.text, prompt_ends_with_think) for sample in samples),
        unanswered=sum(sample.answer is None for sample in samples),
        tokens=sum(sample.num_tokens for sample in samples),
        reflections=sum(found.reflections for found in behaviours),
        mixed=sum(found.mixes_languages for found in behaviours),
    )


def is_unclosed(text: str, prompt_ends_with_think: bool) -> bool:
    """True where thinking was opened, in the prompt or by the completion, and never closed."""
    return "</think>" not in text and (prompt_ends_with_think or "<think>" in text)


def strata_of(problem: Problem) -> dict[str, str]:
    """The problem's kind, its language, and its values of the fields in STRATA."""
    found = {name: str(problem.meta[name]) for name in STRATA if problem.meta.get(name) is not None}
    return {"verifier": problem.verifier, "language": problem.language} | found


def figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """pass@1 with its clustered standard error, pass@k, cons@k, truncation, length and reflection over problems.

    A sample whose verdict is unknown counts neither as right nor as wrong: a problem's share is that of its other
    samples, and a problem without any is left out of `n`. Problems weigh the same, however many samples are known.
    pass@k' is over the problems with at least k' verdicts. `cons_at_k` leaves out problems whose vote is unknown.
    Where samples are scored, `best_of_k` and `weighted_cons_at_k` stand beside it; `truth` where a rule tells it.
    """
    counted = [outcome for outcome in outcomes if outcome.known]
    shares = [outcome.share_right for outcome in counted]
    k = max(outcome.k for outcome in outcomes)
    samples = sum(outcome.k for outcome in outcomes)
    at_k = _pass_at(counted, k)
    return {
        "pass_at_1": mean(shares),
        "pass_at_1_stderr": stderr_of_mean(shares),
        "pass_at_k": mean(at_k),
        "pass_at_k_stderr": stderr_of_mean(at_k),
        **_chosen(outcomes, "cons_at_k", "vote"),
        **(_chosen(outcomes, "best_of_k", "best") if any(o.best for o in outcomes) else {}),
        **(_chosen(outcomes, "weighted_cons_at_k", "weighted") if any(o.weighted for o in outcomes) else {}),
        **_truth(outcomes),
        "k": k,
        "n": len(counted),
        "truncated_share": sum(outcome.truncated for outcome in outcomes) / samples,
        "unclosed_think_share": sum(outcome.unclosed for outcome in outcomes) / samples,
        "unanswered_share": sum(outcome.unanswered for outcome in outcomes) / samples,
        "unknown_share": sum(outcome.k - outcome.known for outcome in outcomes) / samples,
        "mean_completion_tokens": sum(outcome.tokens for outcome in outcomes) / samples,
        "reflections_per_completion": sum(outcome.reflections for outcome in outcomes) / samples,
        "mixed_language_share": sum(outcome.mixed for outcome in outcomes) / samples,
    }


def pass_curve(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """pass@k' for k' = 1, 2, 4, … and k, each with its standard error and the number of problems behind it."""
    estimates = {size: _pass_at(outcomes, size) for size in powers_up_to(max(outcome.k for outcome in outcomes))}
    return {
        str(size): {"pass": mean(values), "stderr": stderr_of_mean(values), "n": len(values)}
        for size, values in estimates.items()
    }


def decoded_curve(outcomes: Sequence[Outcome]) -> dict[str, dict[str, dict[str, float]]]:
    """`cons` at k' = 1, 2, 4, … and k, each with standard error and n, and where samples are scored, `best_of` and
    `weighted_cons`.

    Over the problems with the largest k; a way to choose that no problem has is left out.
    """
    k = max(outcome.k for outcome in outcomes)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, kind in (("cons", "vote"), ("best_of", "best"), ("weighted_cons", "weighted")):
        decoded: list[Decoded] = [one for o in outcomes if o.k == k and (one := getattr(o, kind)) is not None]
        for at, size in enumerate(powers_up_to(k) if decoded else ()):
            values = [one.shares[at] for one in decoded if not math.isnan(one.shares[at])]
            point = {"share": mean(values), "stderr": stderr_of_mean(values), "n": len(values)}
            found.setdefault(name, {})[str(size)] = point
    return found


def by_stratum(outcomes: Sequence[Outcome]) -> dict[str, dict[str, dict[str, Any]]]:
    """The figures of each value of each field that has several: {"level": {"1": figures, …}, …}."""
    names = dict.fromkeys(name for outcome in outcomes for name in outcome.strata)
    found = {}
    for name in names:
        values = sorted({outcome.strata[name] for outcome in outcomes if name in outcome.strata}, key=_naturally)
        if 1 < len(values) <= MAX_STRATA:
            found[name] = {value: figures([o for o in outcomes if o.strata.get(name) == value]) for value in values}
    return found


def _chosen(outcomes: Sequence[Outcome], name: str, kind: str) -> dict[str, float]:
    """The share of problems whose chosen answer is right, of those where it can be judged."""
    decoded: list[Decoded] = [one for outcome in outcomes if (one := getattr(outcome, kind)) is not None]
    right = [float(one.verdict is Verdict.RIGHT) for one in decoded if one.verdict is not Verdict.UNKNOWN]
    return {name: mean(right), f"{name}_stderr": stderr_of_mean(right)}


def _truth(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The mean truth over prompts of the general world; nothing where there are none."""
    truths = [outcome.truth for outcome in outcomes if outcome.truth is not None]
    return {"truth": mean(truths), "truth_stderr": stderr_of_mean(truths)} if truths else {}


def _pass_at(outcomes: Iterable[Outcome], size: int) -> list[float]:
    return [pass_at_k(outcome.known, outcome.right, size) for outcome in outcomes if outcome.known >= size]


def _naturally(value: str) -> tuple[float, str]:
    """Numbers by size, before all other text."""
    return (float(value) if value.isdecimal() else math.inf, value)
