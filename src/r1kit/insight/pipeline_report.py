"""The page about a pipeline: stage table, the paper's figures, filters, one problem through all stages, curves."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1kit.errors import RunError
from r1kit.evaluation.checkpoints import file_name
from r1kit.insight.charts import charts_of
from r1kit.insight.doctor.course import figure
from r1kit.insight.doctor.diagnosis import diagnose
from r1kit.insight.markup import Html, element, joined
from r1kit.insight.overview import duration
from r1kit.insight.page import page
from r1kit.insight.records import MAX_ROLLOUTS, MAX_TEXT_BYTES, RunRecord, read_record
from r1kit.insight.rollout_table import rollout_columns
from r1kit.insight.sections import curves_section, doctor_section, rollouts_section, section
from r1kit.insight.stage_table import Column, cell, columns_of, drawn_as, families_of, read_table
from r1kit.run import write_whole

Row = Mapping[str, Any]
# arXiv:2501.12948v2, tables 3 and 12; of students and of RL on the same base, tables 15 and 16.
PAPER = {
    "Zero": {"AIME 2024": 77.9, "MATH-500": 95.9, "IF-Eval": 46.6, "ArenaHard": 53.6},
    "Dev1": {"AIME 2024": 59.0, "MATH-500": 94.2, "IF-Eval": 71.7, "ArenaHard": 77.0},
    "Dev2": {"AIME 2024": 74.0, "MATH-500": 95.9, "IF-Eval": 72.0, "ArenaHard": 73.2},
    "Dev3": {"AIME 2024": 78.1, "MATH-500": 95.4, "IF-Eval": 78.1, "ArenaHard": 75.6},
    "R1": {"AIME 2024": 79.8, "MATH-500": 97.3, "IF-Eval": 83.3, "ArenaHard": 92.3},
}
OURS = (("reasoning", "harder problems", ("harder", "pass_at_1")), ("general", "general prompts", ("general", "truth")))
SHOWN_PROBLEMS = 4


def write_pipeline_report(folder: Path) -> None:
    """Write `report.html` of a pipeline's folder, whatever stands in it so far; raise RunError where it can't be."""
    rows, records = read_table(folder), read_stages(folder)
    if not records and not rows:
        return
    diagnoses = [diagnose(record.metrics, settings=record.recipe, rollouts=record.rollouts) for record in records]
    charts = charts_of(records)
    parts: list[tuple[str, Html | None]] = [
        ("Stages", stages_section(folder, rows)),
        ("Paper", paper_section(rows)),
        ("Funnels", funnels_section(folder)),
        ("Samples", samples_section(folder, rows)),
        ("Curves", curves_section(charts)),
        ("Doctor", doctor_section(records, diagnoses, {chart.plan.name for chart in charts}) if records else None),
        ("Rollouts", rollouts_section(records)),
    ]
    text = page(
        f"{folder.name} – r1kit",
        [(name, part) for name, part in parts if part is not None],
        charts={"charts": {chart.plan.name: chart.spec() for chart in charts}, "rivals": []},
        rollouts=rollout_columns(records),
        runs=[record.name for record in records],
    )
    try:
        write_whole(folder / "report.html", text)
    except OSError as error:
        raise RunError(f"{folder / 'report.html'}: cannot be written: {error.strerror}") from error


def read_stages(folder: Path) -> list[RunRecord]:
    """The stages of reinforcement learning in a pipeline's folder, in their order."""
    found = sorted(path.parent for path in folder.glob("**/metrics.jsonl") if "replaced" not in path.parts)
    names = [str(path.relative_to(folder)) for path in found]
    share = max(1, len(found))
    records = [
        read_record(path, name=name, max_rollouts=MAX_ROLLOUTS // share, max_bytes=MAX_TEXT_BYTES // share)
        for path, name in zip(found, names, strict=True)
    ]
    return [record for record in records if record.kind == "zero"]


def stages_section(folder: Path, rows: Sequence[Row]) -> Html:
    """The stage table, accuracy by family and difficulty, and the time that each stage took."""
    body: list[object] = []
    if rows:
        columns = columns_of(rows)
        names = [str(row.get("name")) for row in rows]
        body.append(
            _table(
                ["", *[column.label for column in columns]],
                [[n, *[cell(row, c) for c in columns]] for n, row in zip(names, rows, strict=True)],
            )
        )
        meanings = [element("li", element("b", column.label), element("span", column.meaning)) for column in columns]
        body.append(_folded("What the columns say", element("ul", meanings, class_="checks")))
        tasks = families_of(rows)
        by_task = [Column(f"{task} ({name})", (name, "by_task", task, "pass_at_1")) for name, task in tasks]
        lines = [[column.label, *[cell(row, column) for row in rows]] for column in by_task]
        body += [element("h3", "Right answers by family and difficulty"), _table(["", *names], lines)]
    else:
        body.append(element("p", "No checkpoint is measured yet: the pipeline has not come to its evaluation."))
    if seconds := _seconds(folder):
        lines = [[name, duration(value)] for name, value in seconds.items()]
        body.append(_folded("Time", _table(["stage", "took"], [*lines, ["in all", duration(sum(seconds.values()))]])))
    note = f"All checkpoints on the same problems, in percent, ± one standard error. {drawn_as(rows)}"
    return section("stages", "From the base to R1 and its students", note, *body)


def paper_section(rows: Sequence[Row]) -> Html | None:
    """The paper's figures beside ours, for the stages that both have."""
    known = [row for row in rows if row.get("name") in PAPER]
    if not known:
        return None
    benchmarks = list(next(iter(PAPER.values())))
    head = ["", *[f"ours: {label}" for _, label, _ in OURS], *[f"the paper: {name}" for name in benchmarks]]
    lines = []
    for row in known:
        ours = [cell(row, Column(label, path)) for _, label, path in OURS]
        lines.append([str(row["name"]), *ours, *[f"{PAPER[str(row['name'])][name]:.1f}" for name in benchmarks]])
    note = (
        "Other problems, another size: only the directions can be compared. In the paper the cold start costs "
        "reasoning and brings instruction following, reasoning RL brings the reasoning back, and the last stages add "
        "general abilities (arXiv:2501.12948v2, tables 3 and 12)."
    )
    return section("paper", "Beside the paper", note, _table(head, lines))


def funnels_section(folder: Path) -> Html | None:
    """What each filter kept of the completions that were drawn, and the paper's table 5."""
    body: list[object] = []
    for path in sorted(folder.glob("**/funnel.json")):
        found = _read_object(path)
        if "replaced" in path.relative_to(folder).parts or not found:
            continue
        body.append(element("h3", str(path.parent.relative_to(folder))))
        body.append(_funnel(found))
        domains = found.get("domains")
        if isinstance(domains, list) and domains:
            names = list(domains[0])
            body.append(_table(names, [[_shown(row.get(name)) for name in names] for row in domains]))
    note = "What was drawn, what each filter dropped, and what is left to learn from, by domain."
    return section("funnels", "Filters", note, *body) if body else None


def _funnel(found: Row) -> Html:
    filters = [row for row in found.get("filters", ()) if isinstance(row, Mapping)]
    drawn = figure(found, "drawn") or (filters and figure({"n": filters[0]["kept"] + filters[0]["dropped"]}, "n"))
    total = max(1.0, drawn[0] if drawn else 1.0)
    lines: list[Sequence[object]] = [["drawn", f"{total:,.0f}", "", _strip(1.0)]]
    for row in filters:
        kept, dropped = float(row.get("kept", 0)), float(row.get("dropped", 0))
        lines.append(
            [str(row.get("name")), f"{kept:,.0f}", f"−{dropped:,.0f}" if dropped else "", _strip(kept / total)]
        )
    return _table(["filter", "kept", "dropped", ""], lines)


def _strip(share: float) -> Html:
    width = max(0.0, min(1.0, share))
    style = f"background:var(--accent);height:10px;border-radius:3px;width:{240 * width:.0f}px"
    return element("div", style=style)


def samples_section(folder: Path, rows: Sequence[Row]) -> Html | None:
    """The first completions of a few problems, checkpoint by checkpoint."""
    by_problem: dict[tuple[str, str], list[tuple[str, Row]]] = {}
    for row in rows:
        name = str(row.get("name"))
        found = _read_object(folder / "evaluation" / f"{file_name(name)}.json").get("samples", ())
        for sample in found:
            by_problem.setdefault((str(sample.get("test")), str(sample.get("prompt"))), []).append((name, sample))
    chosen: list[tuple[str, str]] = []
    for test in ("reasoning", "harder", "general"):
        chosen += [key for key in by_problem if key[0] == test][:SHOWN_PROBLEMS]
    body = [_one_problem(key, by_problem[key], is_open=number == 0) for number, key in enumerate(chosen)]
    note = "One completion of each checkpoint for the same problem, drawn with the same seed."
    return section("samples", "One problem through all stages", note, *body) if body else None


def _one_problem(key: tuple[str, str], samples: Sequence[tuple[str, Row]], *, is_open: bool) -> Html:
    test, prompt = key
    lines: list[Sequence[object]] = [
        [
            name,
            element("span", str(s.get("verdict")), class_=f"badge {'good' if s.get('verdict') == 'right' else 'none'}"),
            str(s.get("num_tokens")),
            element("code", str(s.get("completion"))[:2000], style="white-space:pre-wrap;overflow-wrap:anywhere"),
        ]
        for name, s in samples
    ]
    gold = str(samples[0][1].get("gold", ""))
    told = f"{test}: {prompt}" + (f" (gold: {gold})" if gold else "")
    return element(
        "details",
        element("summary", told),
        _table(["", "", "tokens", "completion"], lines),
        class_="card",
        open=is_open,
    )


def _table(head: Sequence[str], lines: Sequence[Sequence[object]]) -> Html:
    rows = [element("tr", [element("td", value) for value in line]) for line in lines]
    top = element("thead", element("tr", [element("th", name) for name in head]))
    return element("div", element("table", top, element("tbody", rows), class_="rivals"), class_="card scroll")


def _folded(title: str, *body: object) -> Html:
    return element("details", element("summary", title), joined(body), class_="card")


def _seconds(folder: Path) -> dict[str, float]:
    found = _read_object(folder / "pipeline.json").get("seconds", {})
    return {str(name): float(value) for name, value in found.items()} if isinstance(found, dict) else {}


def _shown(value: object) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
