"""cons@k: whose answers count as one, and who wins a tie."""

import pytest

from r1kit.evaluation import voting
from r1kit.evaluation.voting import majority, same_answer
from r1kit.types import Problem, Verdict

R, W, U = Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("answers", "verdicts", "vote"),
    [
        (["7", "8", "8"], [W, R, R], R),
        (["7", "8", "8", "7"], [W, R, R, W], W),  # a tie: 7 was first
        (["8", "7", "7", "8"], [R, W, W, R], R),
        ([" 7", "8", "7 "], [R, W, R], R),
        ([None, None, None, "3"], [W, W, W, R], R),  # who does not answer has no vote
        ([None, None], [W, W], W),
        (["1", "2", "3"], [U, U, U], U),
    ],
)
def test_the_largest_heap_wins_and_on_a_tie_the_answer_that_was_first(answers, verdicts, vote):
    assert majority(answers, verdicts) is vote


def test_by_value_all_right_spellings_are_one_answer_and_wrong_ones_are_compared():
    problem = Problem(id="half", prompt="?", gold="1/2", verifier="math")
    same = same_answer(problem)
    spelled = ["0.5", "3", "1/2", "3.0", "\\frac{1}{2}", "3"]
    verdicts = [R, W, R, W, R, W]
    assert majority(spelled, verdicts) is W  # "3" twice, everything else once
    assert majority(spelled, verdicts, same) is R  # three halves and three threes: a half was first
    assert majority([*spelled, "3.00"], [*verdicts, W], same) is W


def test_right_answers_are_not_compared_again_and_comparisons_are_bounded(monkeypatch):
    compared = []

    def same(left, right):
        compared.append((left, right))
        return False

    monkeypatch.setattr(voting, "MAX_COMPARED", 5)
    answers = [str(number) for number in range(40)]
    majority([*answers, "x", "y"], [W] * 40 + [R, R], same)
    assert len(compared) == 4 + 3 + 2 + 1
    assert all("x" not in pair and "y" not in pair for pair in compared)


def test_a_hostile_answer_is_never_a_gold_that_breaks_the_vote():
    problem = Problem(id="chains/1+1", prompt="?", gold="2", verifier="chains")
    same = same_answer(problem)
    assert not same("__import__('os')", "9**9**9")
    assert not same("", "3")
    assert same("3", " 3 ")


@pytest.mark.parametrize("verifier", ["countdown", "pairs", "code"])
def test_where_several_answers_are_right_only_spelling_says_that_two_are_the_same(verifier):
    assert same_answer(Problem(id="x", prompt="?", gold="1+2", verifier=verifier)) is None
