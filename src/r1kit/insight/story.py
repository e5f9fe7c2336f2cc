"""A run in one glance: did it learn, from what to what, and the few figures that tell it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from r1kit.insight.doctor.course import NOISE, Change, Course, figure
from r1kit.insight.doctor.supervised import loss_change
from r1kit.insight.records import RunRecord, Status

Row = Mapping[str, Any]
MIN_TILES, MAX_TILES = 3, 6


class Tone(StrEnum):
    """The colour of a story."""

    GOOD = "good"
    LEVEL = "level"
    BAD = "bad"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Story:
    """The headline of a run."""

    headline: str
    detail: str
    tone: Tone


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One figure at the start and at the end, with its course."""

    label: str
    before: float
    after: float
    unit: str
    """`share`, `number`."""
    is_better: bool | None
    """None where neither way is better by itself."""
    error: float | None = None
    """One standard error of `after`."""
    course: Sequence[float] = ()


def story_of(record: RunRecord) -> Story:
    """What came of a run, by the held-out test where there is one."""
    course = Course(record.metrics, record.recipe)
    if not course.trained and not course.tests:
        return Story("Nothing has been logged yet", _waiting(record), Tone.NONE)
    if len(course.tests) > 1:
        return _of_tests(record, course.tests)
    if not course.is_rl:
        return _of_change(record, "loss", "loss", loss_change(course), is_lower_better=True)
    return _of_change(record, "pass_at_1", "pass@1 in training", course.over_the_run("pass_at_1"))


def _waiting(record: RunRecord) -> str:
    if record.status is Status.GOING:
        return "The run is in its first iteration; make the report again in a moment."
    return "The folder holds a recipe, but no iteration was finished in it: go on with r1 train … --resume."


def _of_tests(record: RunRecord, tests: Sequence[tuple[int, Row]]) -> Story:
    (first_at, first), (last_at, last) = tests[0], tests[-1]
    noise = NOISE * math.hypot(_error(first), _error(last))
    moved = Change(first["pass_at_1"], last["pass_at_1"], noise)
    detail = (
        f"Iteration {first_at} against {last_at} on the same held-out problems: {_measured(last)}; standard errors "
        f"{_error(first):.1%} and {_error(last):.1%}, so that a change of up to {noise:.1%} is noise."
    )
    figures = f"{moved.before:.1%} → {moved.after:.1%}"
    return _told(record, moved, f"held-out pass@1 {figures}", detail)


def _of_change(
    record: RunRecord, name: str, label: str, moved: Change | None, *, is_lower_better: bool = False
) -> Story:
    if moved is None:
        values = [found[0] for row in record.metrics if (found := figure(row, name))]
        shown = f"{label} {values[-1]:.3g}" if values else "no figure of it yet"
        return Story(f"Too early to tell: {shown}", f"{len(record.metrics)} rows have been logged.", Tone.NONE)
    form = ".3f" if is_lower_better else ".1%"
    words = f"{label} {moved.before:{form}} → {moved.after:{form}}"
    detail = (
        "The first against the last iterations; there is no held-out test to believe." if not is_lower_better else ""
    )
    turned = Change(-moved.before, -moved.after, moved.noise) if is_lower_better else moved
    return _told(record, turned, words, detail or "Nats a token, the first against the last steps.")


def _told(record: RunRecord, moved: Change, words: str, detail: str) -> Story:
    going = record.status is not Status.COMPLETE
    if moved.rose:
        return Story(f"{'So far it learns' if going else 'It learned'}: {words}", detail, Tone.GOOD)
    if moved.fell:
        return Story(f"{'It is getting' if going else 'It got'} worse: {words}", detail, Tone.BAD)
    return Story(f"No clear change{' so far' if going else ''}: {words}", detail, Tone.LEVEL)


def _measured(test: Row) -> str:
    """What a figure must say of itself: n, k, temperature, cap."""
    parts = [
        f"{label} {test[name]:g}"
        for name, label in (("n", "n"), ("k", "k"), ("temperature", "temperature"), ("max_new_tokens", "cap"))
        if figure(test, name)
    ]
    return ", ".join(parts) + (" tokens" if figure(test, "max_new_tokens") else "")


def tiles_of(record: RunRecord) -> list[Tile]:
    """The figures of the first screen, from the held-out tests, else from the iterations; none where they are few."""
    course = Course(record.metrics, record.recipe)
    tests = [test for _, test in course.tests]
    harder = [row["harder"] for row in record.metrics if figure(row.get("harder"), "pass_at_1")]
    tested = len(tests) > 1
    rows = tests if tested else course.trained
    found = [
        _tile(rows, "pass_at_1", "held-out pass@1" if tested else "pass@1", "share", better=1),
        _tile(harder, "pass_at_1", "harder problems", "share", better=1),
        _tile(rows, "mean_completion_tokens", "tokens a completion", "number", better=0),
        _tile(rows, "reflections_per_completion", "reflective words", "number", better=0),
        _tile(rows, "truncated_share", "cut at the limit", "share", better=-1),
        _tile(rows, "mixed_language_share", "reason in the other language", "share", better=0),
        _tile(course.trained, "entropy", "entropy, nats a token", "number", better=0),
    ]
    if not course.is_rl:
        found = [_tile(course.trained, "loss", "loss, nats a token", "number", better=-1)]
        found += [_tile(course.trained, "grad_norm", "gradient norm", "number", better=0)]
        found += [_tile(course.trained, "tokens_per_second", "tokens a second", "number", better=0)]
    tiles = [tile for tile in found if tile][:MAX_TILES]
    return tiles if len(tiles) >= MIN_TILES else []


def _tile(rows: Sequence[Row], name: str, label: str, unit: str, *, better: int) -> Tile | None:
    """`better`: 1 where more is better, -1 where less is, 0 where neither is."""
    values = [found[0] for row in rows if (found := figure(row, name))]
    if len(values) < 2:
        return None
    # A test is a measurement of its own; single iterations scatter, so some of them are taken together.
    is_test = not any("iteration" in row for row in rows)
    width = 1 if is_test else max(1, min(8, len(values) // 4))
    before, after = sum(values[:width]) / width, sum(values[-width:]) / width
    error = figure(rows[-1], f"{name}_stderr") if is_test else None
    is_better = None if better == 0 or before == after else (after > before) == (better > 0)
    return Tile(
        label=label,
        before=before,
        after=after,
        unit=unit,
        is_better=is_better,
        error=error[0] if error else None,
        course=values,
    )


def _error(test: Row) -> float:
    found = figure(test, "pass_at_1_stderr")
    return found[0] if found else 0.0
