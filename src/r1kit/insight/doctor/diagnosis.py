"""All checks of the run doctor on one run; pure, and the same for the console and the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r1kit.insight.doctor import learning, preference, shape, signal, stability, supervised
from r1kit.insight.doctor.course import Course, Row
from r1kit.insight.doctor.finding import Check, Finding, Severity

# In the order of what is to be mended first: the verdict names the first problem.
RL_CHECKS: tuple[Check, ...] = (
    stability.BROKEN_NUMBERS,
    signal.MISMATCH,
    learning.COLLAPSE,
    signal.NO_SIGNAL,
    shape.TRUNCATION,
    preference.HACKED,
    stability.ENTROPY_COLLAPSE,
    stability.ENTROPY_EXPLOSION,
    learning.HACKING,
    learning.FORMAT_ONLY,
    learning.HELD_OUT_FALLS,
    shape.LENGTH_BIAS,
    shape.LENGTH_COLLAPSE,
    shape.LOST_FORMAT,
    stability.GRADIENT_SPIKES,
    stability.CLIPPING,
    stability.FAR_FROM_REFERENCE,
    learning.OVERFITTING,
    signal.UNKNOWN_VERDICTS,
    shape.LOOPS,
    signal.DEAD_GROUPS,
    shape.LANGUAGE_MIXING,
    learning.COARSE_TEST_CHECK,
    signal.CONTROL,
)
SUPERVISED_CHECKS: tuple[Check, ...] = (
    stability.BROKEN_NUMBERS,
    supervised.DIVERGING,
    stability.GRADIENT_SPIKES,
    supervised.MEMORISING,
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found, what was looked for in vain, and what could not be looked for."""

    findings: tuple[Finding, ...]
    """The worst first; the trend is among them."""
    healthy: tuple[Check, ...]
    unknown: tuple[Check, ...]
    """Checks whose figures the run has not logged."""

    def of(self, severity: Severity) -> list[Finding]:
        """The findings of one severity."""
        return [finding for finding in self.findings if finding.severity is severity]

    @property
    def verdict(self) -> Finding | None:
        """The first problem, else how it goes."""
        problems = [finding for finding in self.of(Severity.PROBLEM) if finding.name != "getting worse"]
        return problems[0] if problems else next((found for found in self.findings if found.name in TRENDS), None)


TRENDS = ("learning", "solved", "getting worse", "level", "too early to tell")
ORDER = tuple(Severity)


def diagnose(
    rows: Sequence[Row], *, settings: Mapping[str, Any] | None = None, rollouts: Sequence[Row] = ()
) -> Diagnosis:
    """Look at a run's rows of metrics, its recipe as plain values, and its kept rollouts, the latter two if known."""
    course = Course(rows, settings or {}, rollouts)
    if not course.trained:
        return Diagnosis((), (), ())
    checks = RL_CHECKS if course.is_rl else SUPERVISED_CHECKS
    possible = [check for check in checks if check.is_possible(course)]
    found = [(check, check.look(course)) for check in possible]
    trend = (learning.TREND if course.is_rl else supervised.LOSS_TREND).look(course)
    findings = [finding for _, finding in found if finding is not None] + ([trend] if trend else [])
    return Diagnosis(
        findings=tuple(sorted(findings, key=lambda finding: ORDER.index(finding.severity))),
        healthy=tuple(check for check, finding in found if finding is None),
        unknown=tuple(check for check in checks if check not in possible),
    )
