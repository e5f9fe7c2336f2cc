"""The parts of a report below its first screen, as markup."""

from collections.abc import Sequence

from r1kit.insight.charts import Chart
from r1kit.insight.doctor.course import figure
from r1kit.insight.doctor.diagnosis import Diagnosis
from r1kit.insight.doctor.finding import Finding
from r1kit.insight.markup import Html, element, joined
from r1kit.insight.overview import spoken
from r1kit.insight.records import RunRecord
from r1kit.insight.rivals import Rival, rivals_of
from r1kit.insight.settings_table import differences, settings_of

TITLES = {
    "learning": "Where it learns",
    "reward": "What it is paid for",
    "thinking": "How it thinks",
    "stability": "Whether it holds",
    "machine": "What it costs",
    "other": "Everything else that was logged",
}


KEY_CHARTS = {"pass_at_1": "held_out"}
"""Figures whose curve stands on a chart of another name."""


def chart_card(chart: Chart, *, is_key: bool = False) -> Html:
    """The place of one chart; the page's script draws into it when it comes into view."""
    plan = chart.plan
    return element(
        "figure",
        element("figcaption", element("b", plan.title), element("span", plan.note, class_="muted")),
        element("div", class_="legend"),
        element("div", class_="plot"),
        id=f"chart-{plan.name}",
        data_chart=plan.name,
        class_="card chart key-chart" if is_key else "card chart",
    )


def curves_section(charts: Sequence[Chart]) -> Html | None:
    """All charts but the key one, by what they are about."""
    groups = [(title, [chart for chart in charts if chart.plan.section == name]) for name, title in TITLES.items()]
    body = [
        joined([element("h3", title), element("div", [chart_card(chart) for chart in found], class_="grid")])
        for title, found in groups
        if found
    ]
    note = (
        "Thin lines are single iterations, thick ones their trend (local straight fits). Bands are 95% confidence "
        "intervals (1.96 standard errors, problems as clusters). x: iterations trained. Drag to zoom, double-click to "
        "go back; click a name to hide its line."
    )
    return section("curves", "Curves", note, body) if body else None


def section(identifier: str, title: str, note: str, *children: object) -> Html:
    """A section that the navigation names."""
    return element("section", element("h2", title), element("p", note, class_="lead"), children, id=identifier)


def doctor_section(records: Sequence[RunRecord], diagnoses: Sequence[Diagnosis], drawn: set[str]) -> Html:
    """What the run doctor found, looked for in vain, and could not look for; `drawn` are the charts to link to."""
    note = (
        "The doctor reads the metrics, and names what goes wrong, how it knows, and which knob to turn. Its first line "
        "is the console's."
    )
    body = []
    for record, diagnosis in zip(records, diagnoses, strict=True):
        if len(records) > 1:
            body.append(element("h3", record.name))
        findings = [_finding_card(finding, drawn) for finding in diagnosis.findings]
        body.append(
            element("div", findings, class_="findings")
            if findings
            else element("p", "There is nothing to look at yet.")
        )
        body += [_checks("Looked for, and not found", diagnosis, "healthy")] if diagnosis.healthy else []
        body += [_checks("Not looked for: nothing of it was logged", diagnosis, "unknown")] if diagnosis.unknown else []
    return section("doctor", "Run doctor", note, body)


def _finding_card(finding: Finding, drawn: set[str]) -> Html:
    chart = finding.chart if finding.chart in drawn else KEY_CHARTS.get(finding.chart)
    link = element("a", "see the curve", href=f"#chart-{chart}") if chart in drawn else None
    knob = element("p", element("span", "turn", class_="turn"), finding.knob, class_="knob") if finding.knob else None
    return element(
        "article",
        element("header", element("span", finding.severity.value, class_="severity"), element("b", finding.name)),
        element("p", finding.sentence, class_="sentence"),
        element("p", finding.evidence, " " if link else None, link, class_="evidence") if finding.evidence else None,
        knob,
        class_=f"card finding {finding.severity.value}",
    )


def _checks(title: str, diagnosis: Diagnosis, which: str) -> Html:
    checks = diagnosis.healthy if which == "healthy" else diagnosis.unknown
    items = [element("li", element("b", check.name), element("span", check.healthy)) for check in checks]
    return element(
        "details",
        element("summary", f"{title} ({len(checks)})"),
        element("ul", items, class_=f"checks {which}"),
        class_="card",
    )


def rivals_section(record: RunRecord) -> Html | None:
    """RL beside what is cheaper, as a picture and as a table."""
    rivals = rivals_of(record.demo)
    if not rivals:
        return None
    names = ("", "trained difficulty", "harder", "n", "k", "temperature", "cap", "tokens", "cut")
    head = element("tr", [element("th", name) for name in names])
    labels = dict.fromkeys(rival.label for rival in rivals)
    rows = [_rival_row(label, [rival for rival in rivals if rival.label == label]) for label in labels]
    note = (
        "The same held-out problems for all. If choosing a style, filtering samples or trying sixteen times did as "
        "well, reinforcement learning would not be worth its price."
    )
    picture = element(
        "figure",
        element("figcaption", element("b", "Right answers"), element("span", "bars: 95%", class_="muted")),
        element("div", class_="legend"),
        element("div", class_="plot tall"),
        id="chart-rivals",
        data_chart="rivals",
        class_="card chart",
    )
    table = element("table", element("thead", head), element("tbody", rows), class_="rivals")
    return section("rivals", "Beside its cheap rivals", note, picture, element("div", table, class_="card scroll"))


def _rival_row(label: str, rivals: Sequence[Rival]) -> Html:
    """One rival at both difficulties; `a / b` where a figure differs between them."""
    by_difficulty = {rival.difficulty: rival for rival in rivals}
    measured = [_measured(by_difficulty.get(difficulty)) for difficulty in ("trained", "harder")]

    def told(name: str, unit: str) -> str:
        values = [spoken(found[0], unit) for rival in rivals if (found := figure(rival.row, name))]
        return " / ".join(dict.fromkeys(values))

    names = dict.fromkeys(("n", "k", "temperature", "max_new_tokens", "mean_completion_tokens"), "number")
    names["truncated_share"] = "share"
    cells = [label, *measured, *[told(name, unit) for name, unit in names.items()]]
    is_own = any(rival.part == "after" for rival in rivals)
    return element("tr", [element("td", cell) for cell in cells], class_="strong" if is_own else None)


def _measured(rival: Rival | None) -> str:
    if rival is None:
        return ""
    return spoken(rival.value, "share") + (f" ± {100 * rival.error:.1f}" if rival.error is not None else "")


def recipe_section(records: Sequence[RunRecord]) -> Html | None:
    """The recipe beside its defaults; for several runs, first in what they differ."""
    known = [record for record in records if record.recipe]
    if not known:
        return None
    body = [_differences(known)] if len(known) > 1 else []
    for record in known:
        card = _recipe_card(record)
        whole = element("details", element("summary", f"the whole recipe of {record.name}"), card, class_="card whole")
        body.append(whole if len(known) > 1 else card)
    note = "What deviates from the defaults is marked; the other settings are there to unfold."
    return section("recipe", "Recipe", note, body)


def _differences(records: Sequence[RunRecord]) -> Html:
    rows = differences([record.recipe for record in records])
    if not rows:
        return element("p", "The recipes are the same to the last setting.", class_="card note")
    head = element("tr", element("th", "settings that differ"), [element("th", record.name) for record in records])
    body = [element("tr", element("td", element("code", path)), [element("td", v) for v in vs]) for path, vs in rows]
    return element("div", element("table", element("thead", head), element("tbody", body)), class_="card scroll")


def _recipe_card(record: RunRecord) -> Html:
    settings = settings_of(record.recipe)
    head = element("tr", [element("th", name) for name in ("setting", "value", "default", "meaning")])

    def table_of(*, is_changed: bool) -> Html:
        rows = [
            element(
                "tr",
                element("td", element("code", setting.path)),
                element("td", element("b", setting.value) if is_changed else setting.value),
                element("td", setting.default, class_="muted"),
                element("td", prose(setting.meaning), class_="muted meaning"),
            )
            for setting in settings
            if setting.deviates == is_changed
        ]
        table = element("table", element("thead", head), element("tbody", rows), class_="settings")
        return element("div", table, class_="scroll")

    num_same = sum(not setting.deviates for setting in settings)
    origin = [
        element("li", element("b", name.replace("_", " ")), element("span", _origin(value)))
        for name, value in record.origin.items()
    ]
    return element(
        "div",
        table_of(is_changed=True),
        element("details", element("summary", f"{num_same} settings at their defaults"), table_of(is_changed=False)),
        element("details", element("summary", "Versions and machine"), element("ul", origin, class_="checks")),
        class_="card",
    )


def prose(text: str) -> Html:
    """Text whose `code` is set as code."""
    pieces = text.split("`")
    return joined([element("code", piece) if number % 2 else piece for number, piece in enumerate(pieces)])


def _origin(value: object) -> str:
    return ", ".join(f"{key} {inner}" for key, inner in value.items()) if isinstance(value, dict) else str(value)


def rollouts_section(records: Sequence[RunRecord]) -> Html | None:
    """The place of the viewer; the page's script fills it."""
    kept, total = sum(len(record.rollouts) for record in records), sum(record.num_rollouts for record in records)
    if not kept:
        return None
    counted = f"{kept:,} rollouts" if kept == total else f"{kept:,} of {total:,} rollouts, whole groups spread evenly"
    note = f"{counted}. Thinking and answer are set apart, and reflective words are marked."
    viewer = element("div", element("p", "Unpacking the rollouts …", class_="muted"), id="viewer")
    return section("rollouts", "Rollouts", note, viewer)
