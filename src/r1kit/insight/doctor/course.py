"""The course of a run as the doctor reads it: its rows of metrics, in windows, with the noise that they carry."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Row = Mapping[str, Any]

WINDOW = 8
"""Iterations that `recent` looks back."""
NOISE = 2.0
"""Standard errors within which a difference is none, where every figure tells its own."""
SCATTER_NOISE = 2.6
"""The same where the standard error comes from the scatter of a few iterations: Student's t, about 6 to 14 of them."""


@dataclass(frozen=True, slots=True)
class Change:
    """A mean over some iterations, the same over later ones, and how far the two differ by chance alone."""

    before: float
    after: float
    noise: float

    @property
    def rose(self) -> bool:
        """True where the rise is more than noise."""
        return self.after > self.before + self.noise

    @property
    def fell(self) -> bool:
        """True where the fall is more than noise."""
        return self.after < self.before - self.noise

    @property
    def factor(self) -> float:
        """After / before; infinite for a rise from nothing."""
        return self.after / self.before if self.before > 0 else (math.inf if self.after > 0 else 1.0)


@dataclass(frozen=True)
class Course:
    """The rows of a run, its settings and its rollouts, as far as they are known."""

    rows: Sequence[Row]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The recipe as plain values; empty where it is not known."""
    rollouts: Sequence[Row] = ()
    """Rows of rollouts.jsonl, where somebody has read them."""

    @cached_property
    def trained(self) -> list[Row]:
        """The rows of iterations (RL) or steps (supervised) that trained; the last row of an RL run is a test alone."""
        return [row for row in self.rows if "reward" in row or ("loss" in row and "held_out" not in row)]

    @cached_property
    def is_rl(self) -> bool:
        """True where rollouts were rewarded."""
        return any("reward" in row for row in self.rows)

    @cached_property
    def recent(self) -> list[Row]:
        """The last iterations."""
        return self.trained[-WINDOW:]

    @cached_property
    def width(self) -> int:
        """Iterations at the start, and at the end, that are compared over the whole run; 0 where it is too short."""
        half = len(self.trained) // 2
        return 0 if half < 4 else min(WINDOW, half)

    @cached_property
    def tests(self) -> list[tuple[int, Row]]:
        """(iteration, figures) of each held-out test, in order."""
        return [(row["iteration"], row["held_out"]) for row in self.rows if figure(row.get("held_out"), "pass_at_1")]

    def has(self, name: str) -> bool:
        """True where some row tells this figure; `rollouts` and `held_out` are known by their own names."""
        if name == "rollouts":
            return bool(self.rollouts)
        if name == "held_out":
            return bool(self.tests)
        return any(name in row for row in self.trained)

    def series(self, name: str) -> list[tuple[int, float]]:
        """(iteration, value) wherever the figure was logged and finite."""
        return [(row["iteration"], found[0]) for row in self.trained if (found := figure(row, name))]

    def recently(self, name: str) -> float | None:
        """Its mean over the last iterations; None where none of them tells it."""
        return mean(self.recent, name)

    def over_the_run(self, name: str) -> Change | None:
        """The first iterations against the last; None where the run is too short or does not tell."""
        return change(self.trained[: self.width], self.trained[len(self.trained) - self.width :], name)

    def since(self, start: int, name: str) -> Change | None:
        """A window of iterations from place `start` on, against the last one."""
        return change(self.trained[start : start + WINDOW], self.recent, name)

    def setting(self, path: str, default: Any = None) -> Any:
        """A value of the recipe by its dotted path."""
        place: Any = self.settings
        for key in path.split("."):
            if not isinstance(place, Mapping) or key not in place:
                return default
            place = place[key]
        return place


def figure(row: Row | None, name: str) -> tuple[float] | None:
    """The figure, finite, in a tuple of one, so that 0 is not taken for none."""
    value = row.get(name) if isinstance(row, Mapping) else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (float(value),) if is_number and math.isfinite(value) else None  # type: ignore[arg-type]


def values(rows: Sequence[Row], name: str) -> list[float]:
    """The figure in every row that tells it."""
    return [found[0] for row in rows if (found := figure(row, name))]


def mean(rows: Sequence[Row], name: str) -> float | None:
    """The mean over the rows that tell it; None where none does."""
    found = values(rows, name)
    return statistics.fmean(found) if found else None


def change(earlier: Sequence[Row], later: Sequence[Row], name: str) -> Change | None:
    """How a figure differs between two stretches of rows; None where either has fewer than two that tell it.

    The noise comes from the standard errors in the rows (`NAME_stderr`), else from the scatter within the stretches.
    """
    before, after = values(earlier, name), values(later, name)
    if len(before) < 2 or len(after) < 2:
        return None
    errors = values(earlier, f"{name}_stderr"), values(later, f"{name}_stderr")
    if all(errors):
        noise = NOISE * math.hypot(*(_error_of_mean(found) for found in errors))
    else:
        noise = SCATTER_NOISE * math.hypot(
            *(statistics.stdev(found) / math.sqrt(len(found)) for found in (before, after))
        )
    return Change(statistics.fmean(before), statistics.fmean(after), noise)


def _error_of_mean(errors: Sequence[float]) -> float:
    return math.sqrt(sum(error**2 for error in errors)) / len(errors)
