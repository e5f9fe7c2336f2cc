"""The alarm for reward hacking where reward models grade: their grades rise, and what is true falls.

The paper saw it in its last stage (arXiv:2501.12948v2, supplement B.5): the reward model's score went up, and the
Codeforces score down. That is why it trains on preferences for its last 400 of 1,700 steps alone.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from r1kit.insight.doctor.course import NOISE, Course, Row, figure
from r1kit.insight.doctor.finding import Check, Finding, Severity

FALL_NOISE = 2.5
"""Standard errors of a fall from the best of several tests: the best one is partly luck."""


@dataclass(frozen=True, slots=True)
class Graded:
    """One test: how a reward model graded, and how much is right."""

    iteration: int
    grade: float
    grade_error: float
    right: float
    right_error: float


def hacked(course: Course) -> Finding | None:
    """A grade rose since the best test, and right answers fell, each by more than noise."""
    for model in _models(course):
        for what, tests in _looks(course, model):
            found = _fall(tests)
            if found is not None:
                return _finding(course, model, what, *found)
    return None


def rollback(course: Course, iteration: int) -> str:
    """The last checkpoint that was written up to a test, by its name in the run's folder."""
    every = max(1, int(course.setting("run.checkpoint_interval_iterations", 1)))
    done = iteration // every * every
    steps = [row["step"] for row in course.trained if row["iteration"] == done - 1 and "step" in row]
    return f"checkpoints/step-{steps[0]}" if steps else "the model that this run began with"


def _fall(tests: list[Graded]) -> tuple[Graded, Graded, Graded] | None:
    """The best test, the last one before the fall, and the last of all; None where nothing fell while grades rose."""
    if len(tests) < 2:
        return None
    last, best = tests[-1], max(tests[:-1], key=lambda test: test.right)
    has_fallen = best.right - last.right > _noise(best, last)
    has_risen = last.grade - best.grade > NOISE * math.hypot(best.grade_error, last.grade_error)
    if not (has_fallen and has_risen):
        return None
    whole = [test for test in tests[:-1] if best.right - test.right <= _noise(best, test)]
    return best, whole[-1], last


def _noise(best: Graded, other: Graded) -> float:
    return 0.0 if best is other else FALL_NOISE * math.hypot(best.right_error, other.right_error)


def _models(course: Course) -> list[str]:
    rows = [row["general"].get("by_model") for row in course.rows if isinstance(row.get("general"), dict)]
    return sorted({name for found in rows if isinstance(found, dict) for name in found})


def _looks(course: Course, model: str) -> Iterator[tuple[str, list[Graded]]]:
    """The two ways to see it: right answers to general prompts, where a rule knows them, and to held-out problems."""
    own, held_out = list[Graded](), list[Graded]()
    for row in course.rows:
        general = row.get("general")
        graded = general.get("by_model", {}).get(model) if isinstance(general, dict) else None
        grade = figure(graded, "grade")
        if not isinstance(graded, dict) or grade is None:
            continue
        for tests, source in ((own, graded), (held_out, row.get("held_out"))):
            right = figure(source, "pass_at_1")
            if right is not None:
                errors = _error(graded, "grade_stderr"), _error(source, "pass_at_1_stderr")
                tests.append(Graded(row["iteration"], grade[0], errors[0], right[0], errors[1]))
    yield f"right answers to general prompts, by rule, for {model}", own
    yield "right answers to held-out problems", held_out


def _error(row: Row | None, name: str) -> float:
    found = figure(row, name)
    return found[0] if found else 0.0


def _finding(course: Course, model: str, what: str, best: Graded, whole: Graded, last: Graded) -> Finding:
    return Finding(
        name="reward model hacked",
        severity=Severity.PROBLEM,
        sentence=f"the {model} model's grade rose {best.grade:.2f} -> {last.grade:.2f} while {what} fell "
        f"{best.right:.1%} -> {last.right:.1%}",
        evidence=f"tests at iterations {best.iteration} and {last.iteration}; a fall of up to "
        f"{_noise(best, last):.1%} is noise",
        knob=f"go back to {rollback(course, whole.iteration)}, the last one before the fall; begin later "
        "(preference.from_step) or stop sooner, lower preference.weight, or set objective.kl_coef",
        iteration=whole.iteration,
        chart="general",
    )


HACKED = Check("reward model hacked", "what reward models grade better is not worse in truth", ("general",), hacked)
