"""What the run doctor says: one finding each, in plain words, with its evidence and the knob to turn."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from r1kit.insight.doctor.course import Course


class Severity(StrEnum):
    """How much a finding matters; the worst stands first."""

    PROBLEM = "problem"
    """The run is not doing what it was started for, now."""
    WARNING = "warning"
    """It may soon not be, or it was for a while."""
    NOTE = "note"
    """Worth knowing; nothing is wrong."""
    GOOD = "good"
    """It works."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that the doctor has to say of a run."""

    name: str
    """Its short name, the same on the console and in the report."""
    severity: Severity
    sentence: str
    """What is the case, with its main figure."""
    evidence: str = ""
    """The figures behind it, and the iterations where they stand."""
    knob: str = ""
    """What to turn; empty where there is nothing to do."""
    iteration: int | None = None
    """Where it shows best."""
    chart: str = ""
    """The figure of `metrics.jsonl` whose curve shows it."""

    @property
    def line(self) -> str:
        """The finding as one line of text."""
        return f"{self.name}: {self.sentence}" + (f": {self.knob}" if self.knob else "")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that the doctor looks for."""

    name: str
    healthy: str
    """What is the case where nothing is found."""
    needs: tuple[str, ...]
    """Figures without which it cannot tell: names of a row, `held_out`, or `rollouts`."""
    look: Callable[[Course], Finding | None]

    def is_possible(self, course: Course) -> bool:
        """True where the run has logged what the check needs."""
        return all(course.has(name) for name in self.needs)
