"""What a completion is worth: the truth is paid, the form only around an answer, a coin toss ignores both."""

import pytest

from r1kit.config.rollouts import RewardSettings
from r1kit.errors import VerifierError
from r1kit.rewards import VERIFIERS, score_completion, verify
from r1kit.tasks import FAMILIES
from r1kit.types import Completion, FinishReason, Problem, Verdict

PROBLEM = Problem(id="chains/2+2", prompt="Compute 2+2", gold="4", verifier="chains")
RIGHT = "<think>easy</think><answer>4</answer>"


def score(text, *, seed="0", ends_with_think=False, problem=PROBLEM, **weights):
    completion = Completion(
        token_ids=(1,), logprobs=(0.0,), text=text, finish_reason=FinishReason.STOP, policy_version=0
    )
    rewards = RewardSettings(**weights)
    return score_completion(problem, completion, rewards=rewards, prompt_ends_with_think=ends_with_think, seed=seed)


@pytest.mark.parametrize(
    ("text", "accuracy", "form"),
    [
        (RIGHT, 1.0, 1.0),
        ("<think>easy</think><answer>5</answer>", 0.0, 1.0),
        ("<think>easy</think><answer>four</answer>", 0.0, 0.0),  # wrapped nonsense earns nothing
        ("<think>easy</think><answer>?</answer>", 0.0, 0.0),
        ("<think>easy</think><answer></answer>", 0.0, 0.0),
        ("<think></think><answer>4</answer>", 1.0, 0.0),
        ("<answer>4</answer>", 1.0, 0.0),
        (f"So: {RIGHT}", 1.0, 0.0),
        ("4", 0.0, 0.0),
        ("<think>easy<answer>4</answer>", 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_the_form_is_paid_only_around_an_answer_that_can_be_read(text, accuracy, form):
    found = score(text, format=0.5)
    assert (found.parts["accuracy"], found.parts["format"]) == (accuracy, form)
    assert found.total == accuracy + 0.5 * form
    assert found.verdict is (Verdict.RIGHT if accuracy else Verdict.WRONG)


def test_a_part_of_weight_zero_is_watched_and_moves_nothing():
    found = score(RIGHT, accuracy=0.0)
    assert found.total == 0.0
    assert found.parts["accuracy"] == found.parts["format"] == 1.0
    assert set(found.parts) <= set(RewardSettings.model_fields)


def test_a_negative_weight_punishes():
    assert score(RIGHT, accuracy=-2.0, format=0.25).total == -1.75


def test_a_prompt_that_opens_the_thinking_is_judged_with_it():
    rest = RIGHT.removeprefix("<think>")
    assert score(rest, format=1.0, ends_with_think=True).total == 2.0
    assert score(rest, format=1.0).total == 1.0


def test_the_random_part_ignores_the_completion():
    seeds = [str(seed) for seed in range(50)]
    parts = [[score(text, seed=seed, random=1.0).parts["random"] for seed in seeds] for text in (RIGHT, "", "abc")]
    assert parts[0] == parts[1] == parts[2]
    assert {0.0, 1.0} == set(parts[0])


def test_the_random_part_is_fair():
    tosses = [score("", seed=f"0/iteration-{toss // 64}/{toss % 64}", random=1.0).total for toss in range(4000)]
    assert abs(sum(tosses) / 4000 - 0.5) < 0.03


def test_an_unknown_verifier_is_named_with_the_nearest_one():
    for judge in (lambda problem: verify("4", problem), lambda problem: score(RIGHT, problem=problem)):
        with pytest.raises(VerifierError, match=r"unknown verifier 'chain'; did you mean 'chains'\?"):
            judge(Problem(id="x", prompt="", gold="4", verifier="chain"))
    with pytest.raises(VerifierError, match=r"'qqq'.*known: .*chains"):
        verify("4", Problem(id="x", prompt="", gold="4", verifier="qqq"))


def test_every_family_has_a_verifier():
    assert set(VERIFIERS) >= set(FAMILIES)


def test_a_missing_answer_is_wrong():
    assert verify(None, PROBLEM) is Verdict.WRONG
    assert verify("4", PROBLEM) is Verdict.RIGHT
