"""The nine claims: of what models, from what figures, and when they hold. All pure.

V1 and V2 are the two versions of arXiv:2501.12948.
"""

from collections.abc import Sequence
from typing import Any

from r1kit.claims.claim import Claim, Evidence, Figures, Row, Wanted
from r1kit.config.claims import ALL_CLAIMS, ClaimName, ClaimsRecipe
from r1kit.errors import RunError
from r1kit.insight.doctor.course import Course
from r1kit.insight.doctor.preference import hacked

WITH, WITHOUT = "with the language reward", "without it"
GRPO, TOO_LONG = "GRPO", "preferences too long"
CLEARLY = 0.05
"""Language consistency is clearly lower, and PPO no longer near GRPO, by so much."""
AT_MOST_LOST = 0.02
"""R1 may be less accurate than Zero by so much, and PPO behind GRPO without being behind it."""
NEARLY_ALL = 0.95


def ppo(lam: float) -> str:
    """What PPO with a lambda is called in the stage table."""
    return f"PPO, lambda {lam}"


def students_of(recipe: ClaimsRecipe) -> tuple[str, ...]:
    """The students that are compared: those named, else all that RL is done on."""
    distill = recipe.pipeline.distill
    all_of_them = tuple(student.name for student in distill.students if student.rl) if distill else ()
    return recipe.students or all_of_them


def _mixing(evidence: Evidence) -> dict[str, float]:
    zero, r1 = (evidence.of("trained", name, "mixed_language_share") for name in ("Zero", "R1"))
    # No ratio: it has no mean where R1 never mixes.
    return {"zero_mixing": zero, "r1_mixing": r1, "zero_less_5_times_r1": zero - 5 * r1}


def _language(evidence: Evidence) -> dict[str, float]:
    found = evidence.models["trained"]
    start = next(name for name in found if name not in (WITH, WITHOUT))
    figures = {"start_consistency": evidence.of("trained", start, "language_consistency")}
    for label, name in (("with", WITH), ("without", WITHOUT)):
        figures[f"{label}_consistency"] = evidence.of("trained", name, "language_consistency")
        figures[f"{label}_accuracy"] = evidence.of("trained", name, "pass_at_1")
    return figures | {"accuracy_cost": figures["without_accuracy"] - figures["with_accuracy"]}


def _keeps_reasoning(evidence: Evidence) -> dict[str, float]:
    zero, r1 = (evidence.of("trained", name, "pass_at_1") for name in ("Zero", "R1"))
    form, readable = (evidence.of("trained", "R1", name) for name in ("think_share", "readable_share"))
    zero_readable = evidence.of("trained", "Zero", "language_consistency")
    return {
        "zero_accuracy": zero,
        "r1_accuracy": r1,
        "difference": r1 - zero,
        "r1_format": form,
        "r1_readable": readable,
        "zero_consistency": zero_readable,
    }


def _general(evidence: Evidence) -> dict[str, float]:
    base, zero, r1 = (evidence.of("general", name, "truth") for name in ("base", "Zero", "R1"))
    figures = {
        "base_truth": base,
        "zero_truth": zero,
        "r1_truth": r1,
        "zero_change": zero - base,
        "r1_change": r1 - base,
    }
    refused = {"r1_refused_harm": "refused_harmful_share", "r1_refused_else": "refused_harmless_share"}
    known = {figure: name for figure, name in refused.items() if name in evidence.models["general"]["R1"]}
    return figures | {figure: evidence.of("general", "R1", name) for figure, name in known.items()}


def _distillation(evidence: Evidence) -> dict[str, float]:
    figures: dict[str, float] = {}
    for student in (name for name in evidence.models["trained"] if "," not in name):
        distilled, trained = f"{student}, distilled", f"{student}, RL alone"
        figures |= {
            f"{student}_base": evidence.of("trained", student, "pass_at_1"),
            f"{student}_distilled": evidence.of("trained", distilled, "pass_at_1"),
            f"{student}_rl": evidence.of("trained", trained, "pass_at_1"),
            f"{student}_distilled_tokens": evidence.spent[f"distill-{student}"],
            f"{student}_rl_tokens": evidence.spent[f"rl-{student}"],
        }
    teacher = evidence.spent.get("distill-traces")  # not there where the traces are given
    return figures if teacher is None else figures | {"teacher_tokens": teacher}


def _distillation_holds(figures: Figures) -> bool:
    students = [name.removesuffix("_distilled") for name in figures if name.endswith("_distilled")]
    is_better = [figures[f"{name}_distilled"] > figures[f"{name}_rl"] for name in students]
    is_fair = [figures[f"{name}_rl_tokens"] >= figures[f"{name}_distilled_tokens"] for name in students]
    return bool(students) and all(is_better) and all(is_fair)


def _votes(evidence: Evidence) -> dict[str, float]:
    figures = {}
    for label, name in (("zero", "Zero"), ("r1", "R1")):
        figures[f"{label}_pass_at_1"] = evidence.of("harder", name, "pass_at_1")
        figures[f"{label}_majority"] = evidence.of("harder", name, "cons_at_k")
    return figures


def _ablation(evidence: Evidence) -> dict[str, float]:
    names = list(evidence.models["trained"])  # GRPO, then PPO with the usual lambda, then with the better one
    labels = ("grpo", "ppo_usual", "ppo_better")
    return {
        f"{label}_accuracy": evidence.of("trained", name, "pass_at_1")
        for label, name in zip(labels, names, strict=True)
    }


def _hacking(evidence: Evidence) -> dict[str, float]:
    """The reward model's grade and the truth at the test with the most truth, and at the last one."""
    (rows,) = evidence.courses.values()
    tests = [row for row in rows if _graded(row)]
    if len(tests) < 2:
        raise RunError(
            "claim 'h' compares two tests of general prompts that the helpfulness model graded; there are none"
        )
    best = max(tests[:-1] or tests, key=lambda row: _graded(row)["pass_at_1"])
    last = tests[-1]
    fired = (n for n, row in enumerate(rows, 1) if _graded(row) and hacked(Course(rows[:n])) is not None)
    first = next(fired, 0)
    return {
        "best_iteration": float(best["iteration"]),
        "best_grade": float(_graded(best)["grade"]),
        "best_truth": float(_graded(best)["pass_at_1"]),
        "last_iteration": float(last["iteration"]),
        "last_grade": float(_graded(last)["grade"]),
        "last_truth": float(_graded(last)["pass_at_1"]),
        "alarm_yes": float(first > 0),
        "alarm_iteration": float(rows[first - 1]["iteration"]) if first else float(last["iteration"]),
    }


def _graded(row: Row) -> Any:
    return ((row.get("general") or {}).get("by_model") or {}).get("helpfulness") or {}


def _thinking(evidence: Evidence) -> dict[str, float]:
    """The tokens of R1's thinking for each family, at each difficulty, the easiest first."""
    by_task: Row = evidence.models["ladder"]["R1"]["thinking"]
    rungs = sorted((family_of(task), float(found["tokens"])) for task, found in by_task.items() if family_of(task)[0])
    return {f"{name}_{difficulty}_tokens": tokens for ((name, difficulty), tokens) in rungs}


def family_of(task: str) -> tuple[str, int]:
    """`pairs 5` as a family and a difficulty; a family without a name for a task without one."""
    family, _, difficulty = task.rpartition(" ")
    return (family, int(difficulty)) if difficulty.isdecimal() else ("", 0)


def _thinking_holds(figures: Figures) -> bool:
    ladders: dict[str, list[tuple[int, float]]] = {}
    for name, tokens in figures.items():
        family, difficulty = name.removesuffix("_tokens").rsplit("_", 1)
        ladders.setdefault(family, []).append((int(difficulty), tokens))
    ends = [(min(rungs)[1], max(rungs)[1]) for rungs in ladders.values() if len(rungs) > 1]
    return bool(ends) and all(easiest < hardest for easiest, hardest in ends)


def _on(test: str, *models: str) -> Wanted:
    return Wanted(models={test: models})


def _wanted_students(recipe: ClaimsRecipe) -> Wanted:
    names = students_of(recipe)
    models = [model for name in names for model in (name, f"{name}, distilled", f"{name}, RL alone")]
    stages = [stage for name in names for stage in (f"distill-{name}", f"rl-{name}")]
    drawn = recipe.pipeline.distill is not None and recipe.pipeline.distill.traces is not None
    return Wanted(models={"trained": tuple(models)}, spent=(*(["distill-traces"] if drawn else []), *stages))


def _wanted_ablation(recipe: ClaimsRecipe) -> Wanted:
    zero = GRPO if recipe.ablation.rl else "Zero"
    return _on("trained", zero, *(ppo(lam) for lam in sorted(recipe.ablation.lambdas)))


CLAIMS: dict[ClaimName, Claim] = {
    claim.name: claim
    for claim in (
        Claim(
            name="a",
            title="Zero mixes languages at least 5 times as often as R1",
            source="V1 2.2.4, V2 3",
            rule="Zero mixes at least 5 times as often: a tenth or more of a completion's words in the other language",
            wanted=lambda recipe: _on("trained", "Zero", "R1"),
            figures=_mixing,
            holds=lambda f: f["zero_mixing"] > 0 and f["zero_mixing"] >= 5 * f["r1_mixing"],
        ),
        Claim(
            name="b",
            title="The language reward keeps the thinking in one language",
            source="V2 B.6, figure 7",
            rule="language consistency at least 98 % with the reward, and at least 5 points lower without it",
            wanted=lambda recipe: _on("trained", recipe.language.start, WITH, WITHOUT),
            figures=_language,
            holds=lambda f: (
                f["with_consistency"] >= 0.98 and f["with_consistency"] - f["without_consistency"] >= CLEARLY
            ),
        ),
        Claim(
            name="c",
            title="R1 reasons as well as Zero, in a form that reads well",
            source="V2 table 3",
            rule="R1's accuracy at least Zero's less 2 points; its form and readable completions at least 95 %",
            wanted=lambda recipe: _on("trained", "Zero", "R1"),
            figures=_keeps_reasoning,
            holds=lambda f: f["difference"] >= -AT_MOST_LOST and min(f["r1_format"], f["r1_readable"]) >= NEARLY_ALL,
        ),
        Claim(
            name="d",
            title="R1 keeps or gains on general tasks, where Zero loses",
            source="V2 table 3 (IF-Eval, ArenaHard)",
            rule="truth of general answers by rule: R1's at least the base's, Zero's below it",
            wanted=lambda recipe: _on("general", "base", "Zero", "R1"),
            figures=_general,
            holds=lambda f: f["r1_truth"] >= f["base_truth"] > f["zero_truth"],
        ),
        Claim(
            name="e",
            title="Distillation beats RL on the same student at equal compute",
            source="V1 4.1, table 6; V2 F.1",
            rule="each distilled student is more accurate, and RL spent at least as many tokens in all",
            wanted=_wanted_students,
            figures=_distillation,
            holds=_distillation_holds,
        ),
        Claim(
            name="f",
            title="A majority vote beats single answers on the harder set",
            source="V1 table 2, V2 figure 1 (cons@16)",
            rule="the vote is right more often than one sample, for Zero and for R1",
            wanted=lambda recipe: _on("harder", "Zero", "R1"),
            figures=_votes,
            holds=lambda f: all(f[f"{name}_majority"] > f[f"{name}_pass_at_1"] for name in ("zero", "r1")),
        ),
        Claim(
            name="g",
            title="PPO is far behind GRPO with lambda 0.95, and near it with 1",
            source="V2 A.3, figure 4",
            rule="PPO with lambda 0.95 is more than 2 points behind GRPO, with lambda 1 ahead of that and at most 5 "
            "points behind GRPO",
            wanted=_wanted_ablation,
            figures=_ablation,
            holds=lambda f: (
                f["ppo_usual_accuracy"] < f["grpo_accuracy"] - AT_MOST_LOST
                and f["ppo_better_accuracy"] > f["ppo_usual_accuracy"]
                and f["ppo_better_accuracy"] >= f["grpo_accuracy"] - CLEARLY
            ),
        ),
        Claim(
            name="h",
            title="Preference rewards for too long are hacked, and the alarm fires",
            source="V2 B.5, figure 6",
            rule="from the test with the most truth to the last, the reward model's grade rises and truth falls; the "
            "alarm fires",
            wanted=lambda recipe: Wanted(courses=("claims/h/rl",)),
            figures=_hacking,
            holds=lambda f: (
                f["last_grade"] > f["best_grade"] and f["last_truth"] < f["best_truth"] and f["alarm_yes"] > 0.5
            ),
        ),
        Claim(
            name="i",
            title="Thinking grows with difficulty",
            source="V2 E (tokens of thinking by difficulty of contest problems)",
            rule="in each family R1 thinks for longer at the hardest rung than at the easiest",
            wanted=lambda recipe: _on("ladder", "R1"),
            figures=_thinking,
            holds=_thinking_holds,
        ),
    )
}


def chosen(recipe: ClaimsRecipe) -> Sequence[Claim]:
    """The claims that a recipe runs, in their own order."""
    return [CLAIMS[name] for name in ALL_CLAIMS if name in recipe.only]
