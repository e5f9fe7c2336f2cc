"""How good a policy is: k samples a problem, every figure with its n, k, truncation and standard error."""

from collections.abc import Sequence

from r1kit.engine.rollouts import Sampler
from r1kit.evaluation.behaviours import count_behaviours
from r1kit.evaluation.metrics import clustered_stderr, majority_vote, pass_at_k
from r1kit.rewards import verify
from r1kit.types import Group, Problem, Verdict


def evaluate(sampler: Sampler, problems: Sequence[Problem], k: int, *, seed: str) -> dict[str, float]:
    """The figures of `summarise` over k samples a problem, and how they were drawn."""
    return summarise(sampler.groups(problems, k, seed=seed)) | drawn_by(sampler)


def drawn_by(sampler: Sampler) -> dict[str, float]:
    """What a figure must say of the sampling behind it."""
    return {"temperature": sampler.sampling.temperature, "max_new_tokens": sampler.sampling.max_new_tokens}


def summarise(groups: Sequence[Group]) -> dict[str, float]:
    """pass@1 with its clustered standard error, pass@k, cons@k, truncation, length and reflection over groups."""
    rights = [[r.score.verdict is Verdict.RIGHT for r in group.rollouts] for group in groups]
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    k = len(groups[0].rollouts)
    behaviours = [count_behaviours(r.completion.text, language=r.problem.language) for r in rollouts]
    return {
        "pass_at_1": sum(map(sum, rights)) / len(rollouts),
        "pass_at_1_stderr": clustered_stderr(rights),
        "pass_at_k": sum(pass_at_k(k, sum(right), k) for right in rights) / len(groups),
        "cons_at_k": sum(_majority_is_right(group) for group in groups) / len(groups),
        "k": k,
        "n": len(groups),
        "truncated_share": sum(r.completion.is_truncated for r in rollouts) / len(rollouts),
        "mean_completion_tokens": sum(len(r.completion.token_ids) for r in rollouts) / len(rollouts),
        "reflections_per_completion": sum(b.reflections for b in behaviours) / len(rollouts),
        "mixed_language_share": sum(b.mixes_languages for b in behaviours) / len(rollouts),
    }


def _majority_is_right(group: Group) -> bool:
    answers = [rollout.score.answer for rollout in group.rollouts]
    return verify(majority_vote(answers), group.problem) is Verdict.RIGHT
