"""Figures as a person reads them: no score without its n, k, temperature, cap and truncation."""

import math
from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

TOO_MANY_TRUNCATED = 0.1
COLUMNS = ("pass@1", "pass@k", "cons@k", "n", "k", "cap", "cut", "tokens")
Figures = Mapping[str, Any]


def show_results(results: Figures, console: Console) -> None:
    """A row a task, what is wrong with its figures below, and a table for each field that tells problems apart."""
    drawn = f"temperature {results['temperature']:g}, top-p {results['top_p']:g}"
    table = _table(f"{results['model']}: template {results['template']}, {drawn}", "task")
    for name, part in results["tasks"].items():
        table.add_row(name, *_cells(part))
    if len(results["tasks"]) > 1:
        table.add_row("mean of tasks", percent(results["pass_at_1"], results["pass_at_1_stderr"]))
    console.print(table)
    for name, part in results["tasks"].items():
        if said := beside(part):
            console.print(f"{name}: {said}", highlight=False)
    for name, part in results["tasks"].items():
        for warning in warnings(part):
            console.print(f"{name}: {warning}", style="yellow", highlight=False)
    for name, part in results["tasks"].items():
        for field, values in part["by"].items():
            strata = _table(f"{name} by {field}", field)
            for value, figures in values.items():
                strata.add_row(value, *_cells(figures | {"max_new_tokens": part["max_new_tokens"]}))
            console.print(strata)


def show_comparison(name: str, other: str, comparison: Figures, console: Console) -> None:
    """Whether one model is better than the other on one task, in three lines."""
    low, high = comparison["interval"]
    console.print(
        f"{name}: {comparison['difference']:+.1%} ±{comparison['difference_stderr']:.1%} against {other}, "
        f"95 % interval {low:+.1%} to {high:+.1%}, p = {comparison['p_value']:.2g} (paired t, n = {comparison['n']})\n"
        f"  better on {comparison['better']}, worse on {comparison['worse']}, equal on {comparison['equal']} problems, "
        f"p = {comparison['sign_p_value']:.2g} (sign test)\n"
        f"  unpaired, the standard error would be {comparison['unpaired_stderr']:.1%}",
        highlight=False,
    )


def warnings(part: Figures) -> list[str]:
    """What makes a task's figures say less than they seem to."""
    found = []
    if part["truncated_share"] > TOO_MANY_TRUNCATED:
        found.append(
            f"{part['truncated_share']:.0%} of the completions were cut at {part['max_new_tokens']} tokens, and most "
            "of those count as wrong; raise --max-new-tokens"
        )
    if part["unclosed_think_share"] > TOO_MANY_TRUNCATED:
        found.append(
            f"{part['unclosed_think_share']:.0%} never close the thinking that they open, so they answer nothing"
        )
    if part["unknown_share"]:
        found.append(
            f"{part['unknown_share']:.1%} of the completions could not be judged; they count neither as right nor as "
            "wrong"
        )
    return found


def beside(part: Figures) -> str:
    """What a reward model's scores choose, and the truth of general answers, where a task has them."""
    names = {"best_of_k": "best of k", "weighted_cons_at_k": "weighted cons@k", "truth": "truth"}
    found = [f"{said} {percent(part[name], part[f'{name}_stderr'])}" for name, said in names.items() if name in part]
    return ", ".join(found)


def percent(value: float, stderr: float) -> str:
    """A share and its standard error."""
    if math.isnan(value):
        return "–"
    return f"{value:.1%}" if math.isnan(stderr) else f"{value:.1%} ±{stderr:.1%}"


def _table(title: str, first: str) -> Table:
    table = Table(title=title, box=SIMPLE, title_justify="left", padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column(first)
    for column in COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _cells(part: Figures) -> list[str]:
    return [
        percent(part["pass_at_1"], part["pass_at_1_stderr"]),
        percent(part["pass_at_k"], part["pass_at_k_stderr"]),
        percent(part["cons_at_k"], part["cons_at_k_stderr"]),
        f"{part['n']:,}",
        str(part["k"]),
        f"{part['max_new_tokens']:,}",
        f"{part['truncated_share']:.0%}",
        f"{part['mean_completion_tokens']:,.0f}",
    ]
