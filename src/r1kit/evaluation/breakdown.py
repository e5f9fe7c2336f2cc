"""Where the right answers are: by task, by group, and how long right and wrong ones get; and what a test keeps."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from r1kit.evaluation.metrics import clustered_stderr
from r1kit.types import Group, Problem, Rollout, Verdict

KEPT_PROBLEMS = 128
KEPT_SAMPLES = 4
"""A held-out test keeps so many problems with so many completions each as text: always the same ones, so that they can
be read side by side over a run."""


def task_name(problem: Problem) -> str:
    """The family of a problem and its difficulty: `pairs 5`, `math level 3`, `code`, `general fact`."""
    if problem.verifier == "general" and "subject" in problem.meta:
        return f"general {problem.meta['subject']}"
    if "difficulty" in problem.meta:
        return f"{problem.verifier} {problem.meta['difficulty']}"
    return f"{problem.verifier} level {problem.meta['level']}" if "level" in problem.meta else problem.verifier


def breakdown(groups: Sequence[Group]) -> dict[str, Any]:
    """What the means over all completions hide: figures by task, groups by outcome, lengths by verdict.

    A mean over nothing is None.
    """
    num_right = [sum(map(_is_right, group.rollouts)) for group in groups]
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    return {
        "by_task": by_task(groups),
        "all_right_share": sum(n == len(g.rollouts) for n, g in zip(num_right, groups, strict=True)) / len(groups),
        "all_wrong_share": sum(n == 0 for n in num_right) / len(groups),
        "mean_right_tokens": _mean_tokens([rollout for rollout in rollouts if _is_right(rollout)]),
        "mean_wrong_tokens": _mean_tokens([rollout for rollout in rollouts if not _is_right(rollout)]),
    }


def by_task(groups: Sequence[Group]) -> dict[str, dict[str, float]]:
    """pass@1 with its clustered standard error and n, for each task's name."""
    rights: dict[str, list[list[bool]]] = {}
    for group in groups:
        rights.setdefault(task_name(group.problem), []).append([_is_right(rollout) for rollout in group.rollouts])
    return {
        name: {
            "pass_at_1": sum(map(sum, found)) / sum(map(len, found)),
            "pass_at_1_stderr": clustered_stderr(found),
            "n": len(found),
        }
        for name, found in sorted(rights.items())
    }


def kept_rows(iteration: int, test: str, groups: Sequence[Group]) -> Iterator[Mapping[str, object]]:
    """What held_out.jsonl keeps of a test (`held_out` or `harder`): the first completions of the first problems."""
    for group in groups[:KEPT_PROBLEMS]:
        for rollout in group.rollouts[:KEPT_SAMPLES]:
            yield {"test": test} | rollout_row(iteration, rollout)


def rollout_row(iteration: int, rollout: Rollout) -> dict[str, object]:
    """One completion as a row of rollouts.jsonl or held_out.jsonl."""
    problem, completion = rollout.problem, rollout.completion
    return {
        "iteration": iteration,
        "problem_id": problem.id,
        "task": task_name(problem),
        "prompt": problem.prompt,
        "gold": problem.gold,
        "language": problem.language,
        "completion": completion.text,
        "finish_reason": completion.finish_reason.value,
        "num_tokens": len(completion.token_ids),
        "verdict": rollout.score.verdict.value,
        "reward": rollout.score.total,
        "parts": dict(rollout.score.parts),
    }


def _is_right(rollout: Rollout) -> bool:
    return rollout.score.verdict is Verdict.RIGHT


def _mean_tokens(rollouts: Sequence[Rollout]) -> float | None:
    return sum(len(rollout.completion.token_ids) for rollout in rollouts) / len(rollouts) if rollouts else None
