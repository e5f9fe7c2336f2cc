"""Grades beside the rules: what a general problem earns, what it does not, and what is refused."""

import math
from dataclasses import dataclass, field

import pytest

from r1kit.config.rollouts import RewardSettings
from r1kit.errors import VerifierError
from r1kit.rewards.format import split_thinking
from r1kit.rewards.preference import PreferenceRewards, sigmoid
from r1kit.types import Completion, FinishReason, Group, Problem, Rollout, Score, Verdict


@dataclass
class Lengths:
    """Scores a text by its length, and remembers what it was asked."""

    centre: float = 0.0
    sees_all: bool = False
    calls: list = field(default_factory=list)
    answer: float | None = None

    def seen(self, completion):
        return completion if self.sees_all else split_thinking(completion)[1].strip() or None

    def scores(self, exchanges):
        self.calls.append(list(exchanges))
        return [float(len(text)) if self.answer is None else self.answer for _, text in exchanges]


def group(texts, *, verifier="general", model="helpfulness", parts=None, finish=FinishReason.STOP):
    problem = Problem(id=f"{verifier}/{model}", prompt="Ask", gold="", verifier=verifier, meta={"reward_model": model})
    score = Score(total=1.5, parts=parts or {"accuracy": 1.0, "think_format": 1.0}, verdict=Verdict.RIGHT)
    rollouts = tuple(
        Rollout(
            problem=problem,
            prompt_token_ids=(1,),
            completion=Completion(token_ids=(1,), logprobs=(0.0,), text=text, finish_reason=finish, policy_version=0),
            score=score,
        )
        for text in texts
    )
    return Group(problem=problem, rollouts=rollouts)


def rewards(weight=2.0, **settings):
    graders = {"helpfulness": Lengths(centre=3.0), "safety": Lengths(sees_all=True)}
    return PreferenceRewards(
        graders=graders,
        names={"helpfulness": "runs/help", "safety": "runs/safe"},
        weight=weight,
        rules=RewardSettings(accuracy=1.0, think_format=0.5),
        **settings,
    )


def test_a_general_problem_earns_its_grade_and_its_form_but_not_its_truth():
    (found,) = rewards().graded([group(["<think>hm</think>abcd", "<think>hm</think>ab"])])
    first, second = (rollout.score for rollout in found.rollouts)
    assert first.parts == {"accuracy": 1.0, "think_format": 1.0, "helpfulness": pytest.approx(sigmoid(1.0))}
    assert first.total == pytest.approx(0.5 + 2 * sigmoid(1.0))
    assert second.total == pytest.approx(0.5 + 2 * sigmoid(-1.0))
    assert first.verdict is Verdict.RIGHT


def test_reasoning_problems_are_left_as_they_are():
    before = [group(["<think>hm</think>x"], verifier="chains"), group(["x"])]
    after = rewards().graded(before)
    assert after[0] is before[0]
    assert after[1] is not before[1]


def test_completions_of_one_model_are_scored_together_in_their_order():
    found = rewards()
    found.graded([group(["a", "bb"]), group(["<think>t</think>c"], model="safety"), group(["ddd"])])
    helpful, safe = found.graders["helpfulness"], found.graders["safety"]
    assert helpful.calls == [[("Ask", "a"), ("Ask", "bb"), ("Ask", "ddd")]]
    assert safe.calls == [[("Ask", "<think>t</think>c")]]


def test_helpfulness_sees_the_summary_and_safety_everything_the_prompt_opened_included():
    found = rewards(prompt_ends_with_think=True)
    found.graded([group(["t</think>sum"]), group(["t</think>sum"], model="safety")])
    assert found.graders["helpfulness"].calls == [[("Ask", "sum")]]
    assert found.graders["safety"].calls == [[("Ask", "<think>t</think>sum")]]


def test_without_a_summary_there_is_no_grade():
    found = rewards()
    texts = ["<think>never closed, but so polite", "<think>x</think>  ", "ok"]
    scores = [rollout.score for rollout in found.graded([group(texts)])[0].rollouts]
    assert [score.parts["helpfulness"] for score in scores[:2]] == [0.0, 0.0]
    assert scores[2].parts["helpfulness"] > 0
    assert found.graders["helpfulness"].calls == [[("Ask", "ok")]]


def test_a_cut_completion_forfeits_all_where_the_rules_say_so():
    found = rewards()
    forfeits = PreferenceRewards(
        graders=found.graders,
        names=found.names,
        weight=1.0,
        rules=RewardSettings(zero_truncated=True, think_format=0.5),
    )
    cut = group(["abcd"], finish=FinishReason.LENGTH)
    assert forfeits.graded([cut])[0].rollouts[0].score.total == 0.0
    assert found.graded([cut])[0].rollouts[0].score.total > 0.0


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_stops_the_run_by_name(score):
    found = rewards()
    found.graders["helpfulness"].answer = score
    with pytest.raises(VerifierError, match=r"'general/helpfulness'.*runs/help scored (nan|-?inf)"):
        found.graded([group(["x"])])


def test_a_problem_that_nobody_grades_is_named():
    with pytest.raises(VerifierError, match=r"'general/taste' wants the reward model 'taste'.*helpfulness, safety"):
        rewards().graded([group(["x"], model="taste")])


def test_the_sigmoid_is_right_at_any_size():
    assert sigmoid(0.0) == 0.5
    assert sigmoid(1e4) == 1.0
    assert sigmoid(-1e4) == 0.0
    assert sigmoid(2.0) + sigmoid(-2.0) == pytest.approx(1.0)
