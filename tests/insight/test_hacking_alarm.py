"""The alarm for reward hacking: it fires where grades rise and truth falls, and says where to go back to."""

import io

import pytest
from rich.console import Console

from r1kit.insight.console import TrainingConsole
from r1kit.insight.doctor.diagnosis import diagnose
from r1kit.insight.doctor.finding import Severity
from r1kit.insight.verdict import verdict
from r1kit.recipe import parse_recipe
from r1kit.run import Run

SETTINGS = {"run": {"checkpoint_interval_iterations": 8}}
NAME = "reward model hacked"
TESTED = (0, 10, 20, 30, 40)


def graded(grade, right=0.0, **changed):
    figures = {"grade": grade, "grade_stderr": 0.02, "pass_at_1": right, "pass_at_1_stderr": 0.03, "n": 64}
    return figures | changed


def rows_with(rows_of, a_test, *, grades, truths, rules):
    """Rows with a test every ten iterations."""
    rows = rows_of()
    for iteration, grade, truth, right in zip(TESTED, grades, truths, rules, strict=True):
        rows[iteration]["held_out"] = a_test(right)
        rows[iteration]["general"] = {"by_model": {"helpfulness": graded(grade, truth), "safety": graded(0.7, 0.5)}}
    return rows


FLAT = (0.6,) * 5


@pytest.fixture
def found(rows_of, a_test):
    """A function from the course of tests to the alarm, or None."""

    def look(*, grades=(0.5, 0.6, 0.7, 0.8, 0.9), truths=FLAT, rules=FLAT, settings=SETTINGS):
        rows = rows_with(rows_of, a_test, grades=grades, truths=truths, rules=rules)
        findings = {finding.name: finding for finding in diagnose(rows, settings=settings).findings}
        return findings.get(NAME)

    return look


def test_a_rising_grade_with_falling_truth_is_named_with_the_checkpoint_before_the_fall(found):
    alarm = found(truths=(0.5, 0.7, 0.68, 0.4, 0.3))
    assert alarm.severity is Severity.PROBLEM
    assert "helpfulness model's grade rose 0.60 -> 0.90" in alarm.sentence
    assert "70.0% -> 30.0%" in alarm.sentence
    # The last whole test was at iteration 20; checkpoints are written every 8 iterations, so after 16.
    assert alarm.iteration == 20
    assert "checkpoints/step-16," in alarm.knob
    assert "preference.from_step" in alarm.knob


def test_falling_held_out_problems_raise_it_too(found):
    alarm = found(truths=(0.0,) * 5, rules=(0.6, 0.8, 0.8, 0.8, 0.5))
    assert "held-out problems fell 80.0% -> 50.0%" in alarm.sentence
    assert alarm.iteration == 30
    assert "checkpoints/step-24," in alarm.knob


def test_before_the_first_checkpoint_it_names_the_model_that_the_run_began_with(found):
    alarm = found(truths=(0.8, 0.4, 0.4, 0.3, 0.3))
    assert alarm.iteration == 0
    assert "the model that this run began with" in alarm.knob


@pytest.mark.parametrize(
    "course",
    [
        {"truths": (0.3, 0.4, 0.5, 0.6, 0.7)},  # all rises
        {"truths": (0.5, 0.7, 0.7, 0.65, 0.62)},  # a fall within the noise
        {"truths": (0.7, 0.6, 0.5, 0.4, 0.3), "grades": (0.5, 0.5, 0.5, 0.5, 0.52)},  # the grade says so too
        {"truths": (0.7, 0.6, 0.5, 0.4, 0.3), "grades": (0.9, 0.8, 0.7, 0.6, 0.5)},
        {"truths": (0.5, 0.7, 0.4, 0.6, 0.7)},  # it came back
        {"rules": (0.6, 0.62, 0.61, 0.6, 0.59)},
    ],
)
def test_it_is_silent_where_there_is_no_hacking(found, course):
    assert found(**course) is None


def test_a_run_without_reward_models_is_not_looked_at(rows_of):
    diagnosis = diagnose(rows_of())
    assert NAME in {check.name for check in diagnosis.unknown}


def test_it_comes_first_in_the_verdict(rows_of, a_test):
    rows = rows_with(rows_of, a_test, grades=(0.5, 0.6, 0.7, 0.8, 0.9), truths=(0.5, 0.7, 0.68, 0.4, 0.3), rules=FLAT)
    assert verdict(rows, settings=SETTINGS).startswith(NAME)


def test_the_console_warns_at_the_test_that_shows_it(rows_of, a_test, tmp_path):
    recipe = parse_recipe(
        {"kind": "zero", "tasks": [{"kind": "chains"}], "run": {"checkpoint_interval_iterations": 8}}, source="test"
    )
    rows = rows_with(rows_of, a_test, grades=(0.5, 0.6, 0.7, 0.8, 0.9), truths=(0.5, 0.7, 0.68, 0.4, 0.3), rules=FLAT)
    shown = io.StringIO()
    with (
        Run(tmp_path / "run", recipe, resume=False) as run,
        TrainingConsole(run, num_iterations=48, max_new_tokens=96, explain=False, console=Console(file=shown)) as live,
    ):
        for row in rows[:31]:
            said = shown.getvalue()
            live.report({"sampling_seconds": 1.0, "training_seconds": 1.0, "tokens_per_second": 1.0} | row)
    assert "warning" not in said
    assert f"warning: {NAME}: the helpfulness model's grade rose" in shown.getvalue()
    assert "checkpoints/step-16" in (tmp_path / "run" / "log.txt").read_text()
