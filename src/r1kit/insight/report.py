"""`r1 report`: runs as one self-contained page: did they learn, what went wrong, and what did they write."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from r1kit.errors import RunError
from r1kit.insight.charts import PLANS, Chart, charts_of
from r1kit.insight.doctor.course import Course
from r1kit.insight.doctor.diagnosis import Diagnosis, diagnose
from r1kit.insight.doctor.finding import Severity
from r1kit.insight.markup import Html
from r1kit.insight.overview import overview
from r1kit.insight.page import page
from r1kit.insight.records import RunRecord, read_records
from r1kit.insight.rivals import rival_levels, rivals_of
from r1kit.insight.rollout_table import rollout_columns, word_chart
from r1kit.insight.sections import (
    chart_card,
    curves_section,
    doctor_section,
    recipe_section,
    rivals_section,
    rollouts_section,
)
from r1kit.insight.story import story_of
from r1kit.run import plain, write_whole


def write_report(runs: Sequence[Path], out: Path) -> dict[str, Any]:
    """Write the page of these runs (folders of runs, demos or stages) to `out`; returns its figures.

    Raises RunError where a folder holds no run, or `out` can't be written.
    """
    records = read_records(runs)
    diagnoses = [diagnose(record.metrics, settings=record.recipe, rollouts=record.rollouts) for record in records]
    text = render(records, diagnoses)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, text)
    except OSError as error:
        raise RunError(f"{out}: cannot be written: {error.strerror}; name another file with --out") from error
    return report_figures(records, diagnoses)


def render(records: Sequence[RunRecord], diagnoses: Sequence[Diagnosis]) -> str:
    """The page as text."""
    charts = all_charts(records)
    if len(records) == 1:
        charts = [replace(chart, marks=_marks(chart, diagnoses[0])) for chart in charts]
    key = next((chart for chart in charts if chart.plan.section == "hero"), None)
    drawn = {chart.plan.name for chart in charts}
    parts: list[tuple[str, Html | None]] = [
        ("Overview", overview(records, diagnoses, chart_card(key, is_key=True) if key else None)),
        ("Doctor", doctor_section(records, diagnoses, drawn)),
        ("Curves", curves_section(charts)),
        ("Rivals", rivals_section(records[0]) if len(records) == 1 else None),
        ("Rollouts", rollouts_section(records)),
        ("Recipe", recipe_section(records)),
    ]
    title = " · ".join(record.name for record in records)
    return page(
        f"{title} – r1kit",
        [(name, part) for name, part in parts if part is not None],
        charts={
            "charts": {chart.plan.name: chart.spec() for chart in charts},
            "rivals": [asdict(rival) for rival in rivals_of(records[0].demo)] if len(records) == 1 else [],
        },
        rollouts=rollout_columns(records),
        runs=[record.name for record in records],
    )


def all_charts(records: Sequence[RunRecord]) -> list[Chart]:
    """The charts of the metrics, those that need more than metrics put in their places."""
    charts = charts_of(records)
    if len(records) > 1:
        return charts
    levels = rival_levels(records[0].demo)
    charts = [replace(chart, levels=levels) if chart.plan.name == "held_out" else chart for chart in charts]
    words = word_chart(records[0], next(plan for plan in PLANS if plan.name == "words"))
    place = next((n + 1 for n, c in enumerate(charts) if c.plan.name == "reflections_per_completion"), len(charts))
    return [*charts[:place], *([words] if words.traces else []), *charts[place:]]


def _marks(chart: Chart, diagnosis: Diagnosis) -> list[tuple[str, int]]:
    """Where the doctor saw a problem, or a warning, on this chart."""
    ill = [*diagnosis.of(Severity.PROBLEM), *diagnosis.of(Severity.WARNING)]
    return [(found.name, found.iteration) for found in ill if found.chart == chart.plan.name and found.iteration]


def report_figures(records: Sequence[RunRecord], diagnoses: Sequence[Diagnosis]) -> dict[str, Any]:
    """What `--json` reports: of each run its state, its story, its findings, its first and its last test."""
    return {"runs": [_figures(record, found) for record, found in zip(records, diagnoses, strict=True)]}


def _figures(record: RunRecord, diagnosis: Diagnosis) -> dict[str, Any]:
    course = Course(record.metrics, record.recipe)
    tests = [test for _, test in course.tests]
    found: dict[str, Any] = {
        "name": record.name,
        "folder": str(record.folder),
        "kind": record.kind,
        "status": record.status.value,
        "iterations": len(course.trained),
        "story": story_of(record).headline,
        "verdict": diagnosis.verdict.line if diagnosis.verdict else None,
        "findings": [asdict(finding) for finding in diagnosis.findings],
        "faults": list(record.faults),
        "before": tests[0] if tests else None,
        "after": tests[-1] if len(tests) > 1 else None,
        "num_rollouts": record.num_rollouts,
    }
    return plain(found)  # type: ignore[return-value]
