"""Rollouts as columns: what the page's viewer reads, small enough for twenty thousand of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from r1kit.evaluation.behaviours import REFLECTIVE_WORDS_EN, REFLECTIVE_WORDS_ZH, count_behaviours, reflective_words
from r1kit.insight.charts import Chart, Plan, Trace
from r1kit.insight.doctor.course import figure
from r1kit.insight.records import RunRecord

VERDICTS = ("wrong", "right", "unknown")
FINISHES = ("stop", "length", "abort")
TESTS = ("train", "held_out", "harder")
WORDS_DRAWN = 6
Columns = dict[str, Any]


class Coded:
    """Values by their place in a list without repetitions."""

    def __init__(self) -> None:
        """Empty."""
        self.values: list[Any] = []
        self._places: dict[Any, int] = {}

    def place(self, value: Any) -> int:
        """Where a hashable value stands; at the end if it is new."""
        if value not in self._places:
            self._places[value] = len(self.values)
            self.values.append(value)
        return self._places[value]


def rollout_columns(records: Sequence[RunRecord]) -> Columns:
    """The kept rollouts of all runs: one list a field, all of the same length, and lists that others point into.

    `problem` points into `problems`, each [id, task, language, prompt, gold]; `run`, `test`, `finish` and `verdict` are
    places in the runs, TESTS, FINISHES and VERDICTS; `parts` are lists by name.
    """
    rows = [(number, row) for number, record in enumerate(records) for row in record.rollouts]
    problems = Coded()
    names = sorted({name for _, row in rows for name in _parts(row)})
    behaviours = [count_behaviours(row["completion"], language=str(row.get("language", "en"))) for _, row in rows]
    return {
        "run": [number for number, _ in rows],
        "iteration": [row["iteration"] for _, row in rows],
        "test": [_place(TESTS, row.get("test", "train")) for _, row in rows],
        "problem": [problems.place(_problem(row)) for _, row in rows],
        "problems": problems.values,
        "completion": [row["completion"] for _, row in rows],
        "tokens": [_number(row, "num_tokens") for _, row in rows],
        "finish": [_place(FINISHES, row.get("finish_reason", "stop")) for _, row in rows],
        "verdict": [_verdict(row) for _, row in rows],
        "reward": [_number(row, "reward") for _, row in rows],
        "advantage": [_number(row, "advantage") for _, row in rows],
        "parts": {name: [_number(_parts(row), name) for _, row in rows] for name in names},
        "reflections": [found.reflections for found in behaviours],
        "mixes": [int(found.mixes_languages) for found in behaviours],
        "words": {"latin": list(REFLECTIVE_WORDS_EN), "other": list(REFLECTIVE_WORDS_ZH)},
    }


def task_of(row: Mapping[str, Any]) -> str:
    """The family that a rollout's problem belongs to; its id tells it where nothing else does."""
    task = row.get("task")
    return task if isinstance(task, str) else str(row.get("problem_id", "")).partition("/")[0]


def _problem(row: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    return (
        str(row.get("problem_id", row["prompt"])),
        task_of(row),
        str(row.get("language", "")),
        row["prompt"],
        str(row.get("gold", "")),
    )


def _parts(row: Mapping[str, Any]) -> Mapping[str, Any]:
    parts = row.get("parts")
    return parts if isinstance(parts, Mapping) else {}


def _verdict(row: Mapping[str, Any]) -> int:
    """What the verifier said; older rows tell it by the accuracy part alone."""
    said = row.get("verdict")
    return VERDICTS.index(said) if said in VERDICTS else int(_number(_parts(row), "accuracy") == 1)


def _place(names: Sequence[str], name: Any) -> int:
    return names.index(name) if name in names else 0


def _number(row: Mapping[str, Any], name: str) -> float | int | None:
    """The figure with as many digits as are shown; None where there is none."""
    found = figure(row, name)
    if found is None:
        return None
    return int(found[0]) if found[0].is_integer() else round(found[0], 4)


def word_chart(record: RunRecord, plan: Plan) -> Chart:
    """How often each of the commonest reflective words is said a completion, over the iterations of training."""
    counts: dict[int, Counter[str]] = {}
    sizes: Counter[int] = Counter()
    for row in record.rollouts:
        if "test" not in row:
            sizes[row["iteration"]] += 1
            found = counts.setdefault(row["iteration"], Counter())
            found.update(reflective_words(row["completion"]))
    total = sum(counts.values(), Counter[str]())
    commonest = [word for word, _ in total.most_common(WORDS_DRAWN)]
    xs = sorted(sizes)
    return Chart(
        plan=plan,
        traces=[
            Trace(run=0, label=word, look="raw", xs=xs, ys=[counts[x][word] / sizes[x] for x in xs])
            for word in (commonest if len(xs) > 1 else ())
        ],
    )
