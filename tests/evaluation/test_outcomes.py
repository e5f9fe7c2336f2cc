"""Figures over outcomes: unknown verdicts, strata, shares and curves."""

import math
from itertools import combinations

import numpy as np
import pytest

from r1kit.evaluation.outcomes import Outcome, Sample, by_stratum, figures, is_unclosed, outcome_of, pass_curve
from r1kit.types import FinishReason, Problem, Verdict

R, W, U = Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN


def outcome(verdicts: str, *, id_: str = "p", meta: dict | None = None, verifier: str = "math") -> Outcome:
    """`rwu`: a right, a wrong and an unknown sample."""
    kinds = {"r": R, "w": W, "u": U}
    samples = [
        Sample(text="1", answer="1", verdict=kinds[v], finish_reason=FinishReason.STOP, num_tokens=2) for v in verdicts
    ]
    return outcome_of(Problem(id=id_, prompt="?", gold="1", verifier=verifier, meta=meta or {}), samples)


def test_figures_of_several_problems_are_those_of_their_means():
    table = ["rrww", "wwww", "rrrr", "rwww"]
    found = figures([outcome(verdicts) for verdicts in table])
    means = np.array([0.5, 0, 1, 0.25])
    assert found["pass_at_1"] == means.mean()
    # The sandwich: residuals summed within each problem, over all samples, with the C / (C - 1) correction.
    scores = np.array([[sign == "r" for sign in row] for row in table], dtype=float)
    residuals = (scores - scores.mean()).sum(1)
    assert found["pass_at_1_stderr"] == pytest.approx(math.sqrt((residuals**2).sum() * 4 / 3) / scores.size, rel=1e-12)
    assert (found["pass_at_k"], found["k"], found["n"]) == (0.75, 4, 4)


def test_the_pass_curve_is_the_average_over_all_subsets():
    table = ["rrwwww", "wwwwww", "rrrrrw"]
    curve = pass_curve([outcome(verdicts) for verdicts in table])
    assert list(curve) == ["1", "2", "4", "6"]
    for size, point in curve.items():
        chances = [np.mean([("r" in subset) for subset in combinations(row, int(size))]) for row in table]
        assert point["pass"] == pytest.approx(np.mean(chances), abs=1e-12)
        assert point["stderr"] == pytest.approx(np.std(chances, ddof=1) / math.sqrt(3), abs=1e-12)
        assert point["n"] == 3


def test_unknown_is_neither_right_nor_wrong():
    found = figures([outcome("rrwu"), outcome("uuuu"), outcome("wwww")])
    assert found["n"] == 2
    assert found["pass_at_1"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["unknown_share"] == 5 / 12
    assert found["pass_at_k"] == 0  # only the last problem has four verdicts
    curve = pass_curve([outcome("rrwu"), outcome("uuuu"), outcome("wwww")])
    assert [curve[size]["n"] for size in ("1", "2", "4")] == [2, 2, 1]
    assert curve["2"]["pass"] == pytest.approx((1 - 0) / 2)


def test_all_unknown_has_no_score_instead_of_zero():
    found = figures([outcome("uu")])
    assert math.isnan(found["pass_at_1"]) and math.isnan(found["cons_at_k"])
    assert (found["n"], found["unknown_share"]) == (0, 1.0)


def test_programs_have_no_majority():
    assert math.isnan(figures([outcome("rr", verifier="code")])["cons_at_k"])


def test_fields_with_several_values_are_reported_value_by_value_numbers_in_their_order():
    problems = [outcome("r", meta={"level": 10, "subject": "a"}), outcome("w", meta={"level": 9, "subject": "a"})]
    found = by_stratum([*problems, outcome("r", meta={"level": 9, "subject": "a"})])
    assert list(found) == ["level"]  # one subject, one language, one verifier: nothing to tell apart
    assert {value: (part["pass_at_1"], part["n"]) for value, part in found["level"].items()} == {
        "9": (0.5, 2),
        "10": (1.0, 1),
    }
    assert list(found["level"]) == ["9", "10"]


@pytest.mark.parametrize(
    ("text", "opens", "unclosed"),
    [
        ("<think>a</think>b", False, False),
        ("<think>a", False, True),
        ("a", False, False),
        ("a", True, True),
        ("a</think>b", True, False),
    ],
)
def test_a_thinking_that_never_closes_is_counted(text, opens, unclosed):
    assert is_unclosed(text, opens) is unclosed
