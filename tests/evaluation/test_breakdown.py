"""Figures behind the means: by task, by group, by verdict; and the completions that a held-out test keeps."""

import pytest

from r1kit.evaluation.breakdown import KEPT_PROBLEMS, KEPT_SAMPLES, breakdown, kept_rows, task_name
from r1kit.types import Completion, FinishReason, Group, Problem, Rollout, Score, Verdict


def problem(number=0, *, verifier="pairs", **meta):
    return Problem(id=f"{verifier}/{number}", prompt="?", gold="1", verifier=verifier, meta=meta)


def group(asked, outcomes):
    """A group from (is right, number of tokens)."""
    rollouts = [
        Rollout(
            problem=asked,
            prompt_token_ids=(1,),
            completion=Completion(
                token_ids=(5,) * length,
                logprobs=(-1.0,) * length,
                text="x",
                finish_reason=FinishReason.STOP,
                policy_version=0,
            ),
            score=Score(
                total=float(right),
                parts={"accuracy": float(right)},
                verdict=Verdict.RIGHT if right else Verdict.WRONG,
            ),
        )
        for right, length in outcomes
    ]
    return Group(problem=asked, rollouts=tuple(rollouts))


def test_a_task_is_a_family_and_its_difficulty():
    assert task_name(problem(difficulty=5)) == "pairs 5"
    assert task_name(problem(verifier="math", level=3)) == "math level 3"
    assert task_name(problem(verifier="code")) == "code"


def test_figures_are_taken_apart_by_task_outcome_and_verdict():
    found = breakdown(
        [
            group(problem(0, difficulty=5), [(True, 10), (True, 20)]),
            group(problem(1, difficulty=5), [(False, 90), (True, 30)]),
            group(problem(2, difficulty=6), [(False, 50), (False, 70)]),
        ]
    )
    assert found["by_task"]["pairs 5"]["pass_at_1"] == pytest.approx(0.75)
    assert found["by_task"]["pairs 5"]["n"] == 2
    assert found["by_task"]["pairs 5"]["pass_at_1_stderr"] == pytest.approx(0.25)  # problem means 1 and 0.5
    assert found["by_task"]["pairs 6"]["pass_at_1"] == 0
    assert found["all_right_share"] == found["all_wrong_share"] == pytest.approx(1 / 3)
    assert found["mean_right_tokens"] == pytest.approx(20)
    assert found["mean_wrong_tokens"] == pytest.approx(70)


def test_a_mean_over_nothing_is_none():
    found = breakdown([group(problem(), [(True, 10)] * 2)])
    assert found["mean_wrong_tokens"] is None and found["mean_right_tokens"] == 10


def test_a_test_keeps_the_first_completions_of_the_first_problems():
    groups = [group(problem(number), [(True, 1)] * (KEPT_SAMPLES + 3)) for number in range(KEPT_PROBLEMS + 5)]
    rows = list(kept_rows(7, "harder", groups))
    assert len(rows) == KEPT_PROBLEMS * KEPT_SAMPLES
    assert len({row["problem_id"] for row in rows}) == KEPT_PROBLEMS
    assert {(row["iteration"], row["test"], row["verdict"]) for row in rows} == {(7, "harder", "right")}
