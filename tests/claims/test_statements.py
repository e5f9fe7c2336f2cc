"""Each claim on figures that bear it out, that miss, and that stand on the line."""

import pytest

from r1kit.claims.claim import Evidence, shown, unit_of
from r1kit.claims.statements import CLAIMS, WITH, WITHOUT, family_of, ppo
from r1kit.config.claims import ALL_CLAIMS
from r1kit.errors import RunError

HOLDING = {
    "a": {"zero_mixing": 0.30, "r1_mixing": 0.06},
    "b": {"with_consistency": 0.98, "without_consistency": 0.929},
    "c": {"difference": -0.02, "r1_format": 0.95, "r1_readable": 0.95},
    "d": {"base_truth": 0.2, "zero_truth": 0.19, "r1_truth": 0.2},
    "e": {"x_distilled": 0.5, "x_rl": 0.49, "x_distilled_tokens": 100, "x_rl_tokens": 100},
    "f": {"zero_pass_at_1": 0.7, "zero_majority": 0.71, "r1_pass_at_1": 0.8, "r1_majority": 0.81},
    "g": {"grpo_accuracy": 0.90, "ppo_usual_accuracy": 0.87, "ppo_better_accuracy": 0.88},
    "h": {"best_grade": 0.5, "last_grade": 0.6, "best_truth": 0.4, "last_truth": 0.3, "alarm_yes": 2 / 3},
    "i": {"pairs_4_tokens": 9.0, "pairs_5_tokens": 8.0, "pairs_10_tokens": 9.5, "chains_3_tokens": 1.0},
}


@pytest.mark.parametrize("name", ALL_CLAIMS)
def test_figures_on_the_right_side_of_every_bar_hold(name):
    assert CLAIMS[name].holds(HOLDING[name]) is True


@pytest.mark.parametrize(
    ("name", "figure", "value"),
    [
        ("a", "r1_mixing", 0.061),
        ("a", "zero_mixing", 0.0),
        ("b", "with_consistency", 0.979),
        ("b", "without_consistency", 0.94),
        ("c", "difference", -0.021),
        ("c", "r1_format", 0.949),
        ("c", "r1_readable", 0.949),
        ("d", "r1_truth", 0.199),
        ("d", "zero_truth", 0.2),
        ("e", "x_rl", 0.5),
        ("e", "x_rl_tokens", 99),
        ("f", "zero_majority", 0.7),
        ("f", "r1_majority", 0.8),
        ("g", "ppo_usual_accuracy", 0.885),
        ("g", "ppo_better_accuracy", 0.87),
        ("g", "grpo_accuracy", 0.94),
        ("h", "last_grade", 0.5),
        ("h", "last_truth", 0.4),
        ("h", "alarm_yes", 1 / 3),
        ("i", "pairs_10_tokens", 9.0),
    ],
)
def test_one_figure_on_the_wrong_side_is_enough_to_fail(name, figure, value):
    assert CLAIMS[name].holds(HOLDING[name] | {figure: value}) is False


def test_zero_that_never_mixes_and_r1_that_never_does_bear_nothing_out():
    assert not CLAIMS["a"].holds({"zero_mixing": 0.0, "r1_mixing": 0.0})


def test_mixing_is_told_by_how_far_zero_is_beyond_five_times():
    found = {"Zero": {"mixed_language_share": 0.3}, "R1": {"mixed_language_share": 0.05}}
    figures = CLAIMS["a"].figures(Evidence(models={"trained": found}))
    assert figures == {"zero_mixing": 0.3, "r1_mixing": 0.05, "zero_less_5_times_r1": pytest.approx(0.05)}


def test_the_cost_of_the_language_reward_is_what_accuracy_it_takes():
    rows = {
        "Zero": {"language_consistency": 0.6, "pass_at_1": 0.9},
        WITH: {"language_consistency": 0.99, "pass_at_1": 0.88},
        WITHOUT: {"language_consistency": 0.5, "pass_at_1": 0.91},
    }
    figures = CLAIMS["b"].figures(Evidence(models={"trained": rows}))
    assert figures["accuracy_cost"] == pytest.approx(0.03)
    assert (figures["start_consistency"], figures["with_consistency"], figures["without_consistency"]) == (
        0.6,
        0.99,
        0.5,
    )


def test_distillation_counts_the_teacher_apart():
    names = {"x": 0.1, "x, distilled": 0.5, "x, RL alone": 0.2}
    models = {"trained": {name: {"pass_at_1": share} for name, share in names.items()}}
    spent = {"distill-x": 100, "rl-x": 110, "distill-traces": 900}
    figures = CLAIMS["e"].figures(Evidence(models=models, spent=spent))
    assert figures["teacher_tokens"] == 900 and figures["x_base"] == 0.1
    assert CLAIMS["e"].holds(figures)
    given = CLAIMS["e"].figures(Evidence(models=models, spent={"distill-x": 100, "rl-x": 110}))
    assert "teacher_tokens" not in given and CLAIMS["e"].holds(given)


def test_ppo_is_told_apart_by_its_lambda():
    models = {name: {"pass_at_1": share} for name, share in [("Zero", 0.9), (ppo(0.95), 0.5), (ppo(1.0), 0.88)]}
    figures = CLAIMS["g"].figures(Evidence(models={"trained": models}))
    assert figures == {"grpo_accuracy": 0.9, "ppo_usual_accuracy": 0.5, "ppo_better_accuracy": 0.88}


def rows(*tests):
    for iteration, grade, right in tests:
        graded = {"grade": grade, "grade_stderr": 0.01, "pass_at_1": right, "pass_at_1_stderr": 0.02}
        yield {"iteration": iteration, "general": {"by_model": {"helpfulness": graded}}}
        yield {"iteration": iteration + 1, "reward": 0.5, "step": iteration}


def test_hacking_compares_the_test_with_the_most_truth_with_the_last_and_names_the_first_alarm():
    course = list(rows((0, 0.4, 0.50), (10, 0.6, 0.60), (20, 0.8, 0.30), (30, 0.9, 0.10)))
    figures = CLAIMS["h"].figures(Evidence(courses={"claims/h/rl": course}))
    assert (figures["best_iteration"], figures["best_grade"], figures["best_truth"]) == (10, 0.6, 0.6)
    assert (figures["last_iteration"], figures["last_grade"], figures["last_truth"]) == (30, 0.9, 0.1)
    assert (figures["alarm_yes"], figures["alarm_iteration"]) == (1.0, 20)
    assert CLAIMS["h"].holds(figures)


def test_without_a_fall_no_alarm_fires():
    course = list(rows((0, 0.4, 0.50), (10, 0.6, 0.60), (20, 0.8, 0.62)))
    figures = CLAIMS["h"].figures(Evidence(courses={"claims/h/rl": course}))
    assert figures["alarm_yes"] == 0 and not CLAIMS["h"].holds(figures)


def test_thinking_is_told_by_family_and_difficulty_in_the_order_of_numbers():
    by_task = {"pairs 10": {"tokens": 9}, "pairs 4": {"tokens": 7}, "math": {"tokens": 1}}
    figures = CLAIMS["i"].figures(Evidence(models={"ladder": {"R1": {"thinking": by_task}}}))
    assert list(figures.items()) == [("pairs_4_tokens", 7.0), ("pairs_10_tokens", 9.0)]
    assert family_of("general fact") == ("", 0)


def test_a_single_rung_shows_nothing():
    assert not CLAIMS["i"].holds({"pairs_4_tokens": 9.0})


@pytest.mark.parametrize(
    ("figure", "unit", "text"),
    [
        ("r1_mixing", "share", "12.3 % ± 1.0"),
        ("x_rl_tokens", "tokens", "0.1 ± 0.0"),
        ("last_grade", "grade", "0.12 ± 0.01"),
    ],
)
def test_a_figure_is_shown_in_its_unit(figure, unit, text):
    assert unit_of(figure) == unit
    assert shown(figure, 0.1234, 0.01) == text


def test_large_counts_are_shown_whole():
    assert shown("teacher_tokens", 123456.7) == "123,457"


def test_what_could_not_be_measured_is_one_line():
    models = {"general": {name: {"truth": 0.5} for name in ("base", "Zero", "R1")}}
    assert "r1_refused_harm" not in CLAIMS["d"].figures(Evidence(models=models))
    models["general"]["R1"] = {}
    with pytest.raises(RunError, match="R1 has no truth on general problems"):
        CLAIMS["d"].figures(Evidence(models=models))
    with pytest.raises(RunError, match="claim 'h' compares two tests of general prompts"):
        CLAIMS["h"].figures(Evidence(courses={"claims/h/rl": [{"iteration": 0}]}))
