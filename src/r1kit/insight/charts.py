"""Which curves a report draws, as plain values: the page's script only gives them colours and axes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from r1kit.insight.doctor.course import figure
from r1kit.insight.records import RunRecord
from r1kit.insight.verdict import MEANINGS

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Curve:
    """One figure of `metrics.jsonl` as a line."""

    path: str
    """Keys to the figure, with `/` between them; `*` stands for every key there is, and makes a line of each."""
    label: str = ""
    """The line's name; for `*`, the key's own."""
    look: str = "raw"
    """`raw`: thin, with its running mean; `test`: points with a band; `area`: stacked; `points`: no line."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One chart: what it shows, in words and in curves."""

    name: str
    title: str
    section: str
    curves: tuple[Curve, ...]
    note: str = ""
    unit: str = "number"
    """`share`: 0 to 1, shown in percent; `log`; `number`; `bytes`."""
    is_single: bool = False
    """Drawn for one run alone: areas of several would hide each other."""
    is_comparison: bool = False
    """Not drawn where a run has only one of its curves."""
    setting: str = ""
    """The recipe's path of a value that is drawn as a line across."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One line of one run."""

    run: int
    label: str
    look: str
    xs: Sequence[float]
    ys: Sequence[float]
    errors: Sequence[float] = ()
    """One standard error of each y; empty where it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart with its data."""

    plan: Plan
    traces: Sequence[Trace]
    levels: Sequence[tuple[str, float]] = field(default_factory=tuple)
    """(what, height) of lines across."""
    marks: Sequence[tuple[str, int]] = ()
    """(what, iteration) of lines upright."""

    def spec(self) -> dict[str, Any]:
        """All of it as plain values."""
        plan = self.plan
        return {
            "name": plan.name,
            "unit": plan.unit,
            "traces": [
                {"run": t.run, "label": t.label, "look": t.look, "x": list(t.xs), "y": _rounded(t.ys)}
                | ({"e": _rounded(t.errors)} if t.errors else {})
                for t in self.traces
            ],
            "levels": [{"label": label, "y": height} for label, height in self.levels],
            "marks": [{"label": label, "x": place} for label, place in self.marks],
        }


def _test(name: str, label: str) -> tuple[Curve, ...]:
    return (Curve(name, "training samples"), Curve(f"held_out/{name}", label, "test"))


PLANS: tuple[Plan, ...] = (
    Plan(
        "held_out",
        "Right answers",
        "hero",
        (
            Curve("held_out/pass_at_1", "held out", "test"),
            Curve("harder/pass_at_1", "held out, harder", "points"),
            Curve("pass_at_1", "training samples"),
        ),
        "pass@1: the share of completions whose answer is right",
        "share",
    ),
    Plan("held_out_by_task", "Solve rate by difficulty, held out", "learning",
         (Curve("held_out/by_task/*/pass_at_1", look="test"),),
         "the same held-out problems at each test, by family and difficulty", "share"),
    Plan("by_task", "Solve rate by difficulty, in training", "learning", (Curve("by_task/*/pass_at_1"),),
         "fresh problems each iteration, so it scatters", "share"),
    Plan("outcomes", "What groups came to", "learning",
         (Curve("all_wrong_share", "all wrong", "area"), Curve("mixed_share", "mixed", "area"),
          Curve("all_right_share", "all right", "area")),
         "only mixed groups teach: where all completions earn the same, no advantage is left", "share", is_single=True),
    Plan("dead_group_share", "Dead groups", "learning", (Curve("dead_group_share", "dead groups"),),
         MEANINGS["dead_group_share"], "share"),
    Plan("draws", "What became of the problems drawn", "learning",
         (Curve("groups_trained", "trained", "area"), Curve("surplus_groups", "more than needed", "area"),
          Curve("dropped_all_right", "all right", "area"), Curve("dropped_all_wrong", "all wrong", "area"),
          Curve("dropped_other", "otherwise equal", "area"), Curve("dropped_unknown", "not judged", "area")),
         "dynamic sampling drops groups without variance, and draws others", is_single=True, is_comparison=True),
    Plan("pass_at_k", "One sample, a vote, the best of k", "learning",
         (Curve("pass_at_1", "pass@1"), Curve("cons_at_k", "cons@k"), Curve("pass_at_k", "pass@k")),
         "over the k completions of each training problem: training moves pass@1 towards pass@k", "share",
         is_comparison=True),
    Plan("reward", "Reward", "reward", (Curve("reward", "reward"),), MEANINGS["reward"]),
    Plan("reward_parts", "Reward parts", "reward", (Curve("reward_parts/*"),),
         "mean of each part, before its weight; parts of weight 0 are watched only"),
    Plan("general", "Grades of reward models", "reward",
         (Curve("general/by_model/*/grade", look="test"),
          Curve("general_parts/helpfulness", "helpfulness, in training"),
          Curve("general_parts/safety", "safety, in training")),
         "what reward models say of general prompts, 0 to 1: worth as much as the truth beside it", "share"),
    Plan("general_truth", "Truth of general prompts", "reward",
         (Curve("general/by_model/*/pass_at_1", look="test"),),
         "right by rule, by the reward model that grades them; only the nano world knows", "share"),
    Plan("advantage_shares", "Advantage that each part causes", "reward", (Curve("advantage_shares/*", look="area"),),
         "a form part with a large share means that the policy learns form, not truth", "share", is_single=True),
    Plan("mean_completion_tokens", "Length", "thinking",
         (Curve("mean_completion_tokens", "all"), Curve("mean_right_tokens", "right"),
          Curve("mean_wrong_tokens", "wrong"), Curve("held_out/mean_completion_tokens", "held out", "test")),
         "tokens a completion", setting="sampling.max_new_tokens"),
    Plan("truncated_share", "Truncation", "thinking", _test("truncated_share", "held out"),
         MEANINGS["truncated_share"], "share"),
    Plan("unanswered_share", "No answer", "thinking",
         (Curve("unanswered_share", "no answer found"), Curve("unclosed_think_share", "thinking never closed")),
         "completions that hold nothing to judge", "share"),
    Plan("reflections_per_completion", "Reflection", "thinking", _test("reflections_per_completion", "held out"),
         MEANINGS["reflections_per_completion"]),
    Plan("words", "Which words", "thinking", (),
         "reflective words a completion, in the training rollouts that were kept", is_single=True),
    Plan("mixed_language_share", "Language mixing", "thinking", _test("mixed_language_share", "held out"),
         MEANINGS["mixed_language_share"], "share"),
    Plan("entropy", "Entropy", "stability", (Curve("entropy"),), MEANINGS["entropy"]),
    Plan("kl", "Distance from the reference", "stability", (Curve("kl"),), MEANINGS["kl"]),
    Plan("logprob_gap", "Sampler against trainer", "stability",
         (Curve("logprob_gap", "mean"), Curve("logprob_gap_max", "largest")), MEANINGS["logprob_gap"], "log"),
    Plan("grad_norm", "Gradient norm", "stability", (Curve("grad_norm"),),
         "before it is clipped to optimizer.max_grad_norm", "log", setting="optimizer.max_grad_norm"),
    Plan("clip_share", "Clipped tokens", "stability", (Curve("clip_share"),),
         "tokens whose gradient the clip takes away; 0 where each iteration is one step", "share"),
    Plan("loss", "Loss", "stability", (Curve("loss"),),
         "in reinforcement learning it says nothing of progress: its value is near 0 by construction"),
    Plan("tokens_per_second", "Speed", "machine", (Curve("tokens_per_second"),), MEANINGS["tokens_per_second"]),
    Plan("seconds", "Where the time goes", "machine",
         (Curve("sampling_seconds", "sampling", "area"), Curve("training_seconds", "training", "area"),
          Curve("testing_seconds", "testing", "area")), "seconds an iteration", is_single=True),
    Plan("peak_memory_bytes", "Memory", "machine", (Curve("peak_memory_bytes"),),
         MEANINGS["peak_memory_bytes"], "bytes"),
)  # fmt: skip

ZERO_TELLS = {"held_out", "reward", "dead_group_share", "truncated_share"}
"""Charts that are drawn even where all is 0."""
NOT_DRAWN = {
    "iteration", "step", "k", "n", "num_updates", "completion_tokens", "seconds", "num_rounds", "problems_drawn"
}  # fmt: skip


def charts_of(records: Sequence[RunRecord]) -> list[Chart]:
    """Every chart that has data, in order; figures that no plan names come last, each in a chart of its own."""
    plans = [plan for plan in PLANS if len(records) == 1 or not plan.is_single]
    if not any("reward" in row for record in records for row in record.metrics):
        plans = [_as_hero(plan) if plan.name == "loss" else plan for plan in plans]
    charts = [_chart(plan, records) for plan in [*plans, *_other_plans(records)]]
    return [chart for chart in charts if any(any(trace.ys) or chart.plan.name in ZERO_TELLS for trace in chart.traces)]


def _as_hero(plan: Plan) -> Plan:
    """The loss of a run that learns from given texts is its key curve."""
    note = "nats a token; the mean over the tokens that train"
    return Plan(plan.name, plan.title, "hero", plan.curves, note, plan.unit)


def _chart(plan: Plan, records: Sequence[RunRecord]) -> Chart:
    traces = [
        trace
        for number, record in enumerate(records)
        for curve in plan.curves
        for trace in traces_of(curve, record.metrics, run=number)
    ]
    if any(curve.look == "area" for curve in plan.curves):
        traces = [trace for trace in traces if any(trace.ys)]
    if plan.is_comparison and len({trace.label for trace in traces}) < 2:
        traces = []
    return Chart(plan=plan, traces=traces, levels=_levels(plan, records) if traces else ())


def _levels(plan: Plan, records: Sequence[RunRecord]) -> list[tuple[str, float]]:
    """A setting of the recipe as a line across, once for all runs that share it."""
    *sections, key = plan.setting.split(".")
    found = []
    for record in records:
        place: Any = record.recipe
        for section in sections:
            place = place.get(section, {}) if isinstance(place, Mapping) else {}
        value = figure(place, key)
        if value and (plan.setting, value[0]) not in found:
            found.append((plan.setting, value[0]))
    return found


def _other_plans(records: Sequence[RunRecord]) -> list[Plan]:
    """A plan for every number that was logged and that no plan names; standard errors are bands of their figures."""
    named = {curve.path for plan in PLANS for curve in plan.curves} | NOT_DRAWN
    names = dict.fromkeys(
        name for record in records for row in record.metrics for name in row if figure(row, name) is not None
    )
    rest = [name for name in names if name not in named and not name.endswith("_stderr")]
    return [
        Plan(
            name,
            name.replace("_", " ").capitalize(),
            "other",
            (Curve(name),),
            unit="share" if name.endswith("_share") else "number",
        )
        for name in rest
    ]


def traces_of(curve: Curve, rows: Sequence[Row], *, run: int) -> list[Trace]:
    """The lines that a curve is in one run: one, or one for each key where its path has a `*`."""
    head, star, tail = curve.path.partition("*")
    if not star:
        trace = _trace(curve, rows, curve.path.split("/"), label=curve.label or curve.path, run=run)
        return [trace] if trace else []
    places = [_descend(row, head.strip("/").split("/")) for row in rows]
    keys = dict.fromkeys(key for place in places if place for key in place)
    paths = [(key, [*head.strip("/").split("/"), key, *[part for part in tail.split("/") if part]]) for key in keys]
    found = [_trace(curve, rows, path, label=str(key).replace("_", " "), run=run) for key, path in paths]
    return [trace for trace in found if trace]


def _trace(curve: Curve, rows: Sequence[Row], path: Sequence[str], *, label: str, run: int) -> Trace | None:
    points = []
    for row in rows:
        place = _with_mixed(_descend(row, path[:-1]))
        value = figure(place, path[-1])
        if value:
            error = figure(place, f"{path[-1]}_stderr")
            points.append((row["iteration"], value[0], error[0] if error else None))
    if not points:
        return None
    errors = [error for _, _, error in points if error is not None]
    return Trace(
        run=run,
        label=label,
        look=curve.look,
        xs=[x for x, _, _ in points],
        ys=[y for _, y, _ in points],
        errors=errors if len(errors) == len(points) else (),
    )


def _with_mixed(place: Row | None) -> Row | None:
    """Groups that are neither all right nor all wrong are what is left of 1."""
    if place is None or figure(place, "all_right_share") is None or figure(place, "all_wrong_share") is None:
        return place
    return {**place, "mixed_share": 1 - place["all_right_share"] - place["all_wrong_share"]}


def _descend(row: Row, path: Sequence[str]) -> Row | None:
    place: Any = row
    for key in path:
        place = place.get(key) if isinstance(place, Mapping) else None
    return place if isinstance(place, Mapping) else None


def _rounded(numbers: Sequence[float]) -> list[float]:
    """Six digits: as much as a screen shows, and half the bytes."""
    return [float(f"{number:.6g}") for number in numbers]
