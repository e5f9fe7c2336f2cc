"""RL beside its cheap rivals, where a run is part of a demo that measured them on the same problems."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1kit.insight.doctor.course import figure

Row = Mapping[str, Any]
DIFFICULTIES = ("trained", "harder")
# Part of demo.json -> what it is called here, and whether its figure is pass@k instead of pass@1.
PARTS: tuple[tuple[str, str, str], ...] = (
    ("before", "base", "pass_at_1"),
    ("best_style", "base, its best style forced upon it", "pass_at_1"),
    ("filtered_sft", "base, fine-tuned on its own right samples", "pass_at_1"),
    ("after", "R1-Zero", "pass_at_1"),
    ("without_checking", "R1-Zero that may not say “wait”", "pass_at_1"),
    ("pass_at_16", "base, the best of {k} tries", "pass_at_k"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """One way to an accuracy, measured at one difficulty."""

    part: str
    label: str
    difficulty: str
    value: float
    error: float | None
    """One standard error."""
    row: Row
    """All figures of the measurement."""


def rivals_of(demo: Mapping[str, Any]) -> list[Rival]:
    """Every measured part of the demo, at each difficulty; parts that are not done are left out."""
    found = []
    for part, label, name in PARTS:
        for difficulty in DIFFICULTIES:
            row = demo.get(part, {}).get(difficulty)
            value = figure(row, name)
            if value:
                found.append(
                    Rival(
                        part=part,
                        label=label.format(k=row.get("k")),
                        difficulty=difficulty,
                        value=value[0],
                        error=_error(row, name, value[0]),
                        row=row,
                    )
                )
    return found


def _error(row: Row, name: str, value: float) -> float | None:
    """As logged; for pass@k over k samples each problem counts 0 or 1, so that its standard error follows."""
    if name == "pass_at_1":
        logged = figure(row, "pass_at_1_stderr")
        return logged[0] if logged else None
    n = figure(row, "n")
    return math.sqrt(value * (1 - value) / (n[0] - 1)) if n and n[0] > 1 else None


def rival_levels(demo: Mapping[str, Any]) -> list[tuple[str, float]]:
    """(what, height) of the rivals at the trained difficulty: lines across the key curve."""
    short = {"best_style": "best style", "filtered_sft": "filtered SFT", "pass_at_16": "base, pass@{k}"}
    return [
        (short[rival.part].format(k=rival.row.get("k")), rival.value)
        for rival in rivals_of(demo)
        if rival.difficulty == "trained" and rival.part in short
    ]
