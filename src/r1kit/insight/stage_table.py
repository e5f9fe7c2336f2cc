"""The stage table: what each checkpoint of a pipeline can do, as the paper's tables 3 and 12 show R1's."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from r1kit.insight.doctor.course import figure

Row = Mapping[str, Any]
ABSENT = "–"


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of the table."""

    label: str
    path: tuple[str, ...]
    """Keys to it in a checkpoint's figures."""
    unit: str = "share"
    """`share`, `number`."""
    meaning: str = ""


COLUMNS = (
    Column("reasoning", ("reasoning", "pass_at_1"), meaning="right answers to held-out problems, trained difficulty"),
    Column("harder", ("harder", "pass_at_1"), meaning="the same families at a difficulty that was not trained"),
    Column("strict", ("reasoning", "strict_share"), meaning="R1-Zero's form: a think block and an answer block alone"),
    Column("readable", ("reasoning", "think_share"), meaning="R1's form: one think block, then an answer for the user"),
    Column(
        "language",
        ("reasoning", "language_consistency"),
        meaning="words of the thinking in the language of the question",
    ),
    Column(
        "mixing", ("reasoning", "mixed_language_share"), meaning="completions with a tenth or more in another language"
    ),
    Column("tokens", ("reasoning", "mean_completion_tokens"), "number", "of a completion, thinking included"),
    Column("repeats", ("reasoning", "repeated_share"), meaning="tokens in runs that stood before"),
    Column("cut", ("reasoning", "truncated_share"), meaning="completions cut at the limit"),
    Column("general", ("general", "truth"), meaning="how good answers to general prompts are, by rule"),
    Column("refuses harm", ("general", "refused_harmful_share"), meaning="of asks that do harm"),
    Column("refuses else", ("general", "refused_harmless_share"), meaning="of asks that do none"),
)


def read_table(folder: Path) -> list[Row]:
    """The checkpoints of `evaluation/table.json`; none where nothing is measured yet."""
    path = folder / "evaluation" / "table.json"
    if not path.is_file():
        return []
    try:
        found = json.loads(path.read_text("utf-8"))["checkpoints"]
    except (ValueError, KeyError, TypeError):
        return []
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def cell(row: Row, column: Column) -> str:
    """A figure of a checkpoint, with its standard error where it has one."""
    *sections, name = column.path
    place: Any = row
    for section in sections:
        place = place.get(section) if isinstance(place, Mapping) else None
    value = figure(place, name)
    if value is None:
        return ABSENT
    if column.unit == "number":
        return f"{value[0]:.1f}"
    error = figure(place, f"{name}_stderr")
    return f"{100 * value[0]:.1f}" + (f" ± {100 * error[0]:.1f}" if error and math.isfinite(error[0]) else "")


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """The columns in which some checkpoint has a figure."""
    return [column for column in COLUMNS if any(cell(row, column) != ABSENT for row in rows)]


def families_of(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """(set, family and difficulty) of everything that was measured apart."""
    return list(
        dict.fromkeys(
            (name, task)
            for row in rows
            for name in ("reasoning", "harder", "general")
            for task in (row.get(name) or {}).get("by_task") or ()
        )
    )


def drawn_as(rows: Sequence[Row]) -> str:
    """How the figures were drawn, in words."""
    parts = []
    for name in ("reasoning", "harder", "general"):
        found = next((row[name] for row in rows if isinstance(row.get(name), Mapping)), None)
        if found:
            parts.append(f"{name}: n = {found.get('n')}, k = {found.get('k')}")
    first: Row = next((row["reasoning"] for row in rows if isinstance(row.get("reasoning"), Mapping)), {})
    limits = f"temperature {first.get('temperature')}, at most {first.get('max_new_tokens')} tokens" if first else ""
    return "; ".join([*parts, limits] if limits else parts)


def show_stage_table(folder: Path, console: Console) -> None:
    """Print the table of a pipeline's folder, in percent, without standard errors."""
    rows = read_table(folder)
    if not rows:
        return
    columns = columns_of(rows)
    names = [str(row.get("name")) for row in rows]
    widths = [max(len(column.label), 6) for column in columns]
    first = max(map(len, names))
    lines = [f"every checkpoint, in percent; {drawn_as(rows)}"]
    lines.append("  ".join([" " * first, *[c.label.rjust(w) for c, w in zip(columns, widths, strict=True)]]))
    for name, row in zip(names, rows, strict=True):
        cells = [cell(row, column).partition(" ±")[0] for column in columns]
        lines.append("  ".join([name.ljust(first), *[t.rjust(w) for t, w in zip(cells, widths, strict=True)]]))
    # As text: a table of rich's would break its columns where the terminal is narrow.
    console.print("\n".join(lines), highlight=False, soft_wrap=True)
