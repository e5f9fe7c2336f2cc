"""What a claim is: a sentence of the paper, what must be measured for it, and when figures bear it out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from r1kit.config.claims import ClaimName, ClaimsRecipe
from r1kit.errors import RunError

Figures = Mapping[str, float]
"""A claim's figures for one seed, or their means: shares, and what `unit_of` tells apart."""
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What must be known of a seed's models before a claim can be judged."""

    models: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names in the stage table, for each test set: `trained`, `general`, `harder`, `ladder`."""
    courses: tuple[str, ...] = ()
    """Stages whose tests during training are looked at."""
    spent: tuple[str, ...] = ()
    """Stages whose tokens are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a seed."""

    models: Mapping[str, Mapping[str, Row]] = field(default_factory=dict)
    """The figures of each model on each test set: `models["trained"]["R1"]`."""
    courses: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    """Rows of metrics.jsonl, by stage."""
    spent: Mapping[str, int] = field(default_factory=dict)
    """Tokens, by stage."""

    def of(self, test: str, model: str, name: str) -> float:
        """One figure of a model on a test set; raise RunError where it could not be measured there."""
        value = self.models[test][model].get(name)
        if value is None:
            raise RunError(f"{model} has no {name} on {test} problems: no rule can tell it of these tasks")
        return float(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim of the paper."""

    name: ClaimName
    title: str
    source: str
    """Where the paper says it."""
    rule: str
    """When it holds, in words."""
    wanted: Callable[[ClaimsRecipe], Wanted]
    figures: Callable[[Evidence], dict[str, float]]
    """The figures of one seed."""
    holds: Callable[[Figures], bool]
    """Whether figures bear the claim out: of a seed, or the means over seeds."""


def unit_of(figure: str) -> str:
    """The unit of a figure, by the end of its name: `tokens`, `iteration`, `grade`, `yes`, else a `share`."""
    last = figure.rpartition("_")[2]
    return last if last in ("tokens", "iteration", "grade", "yes") else "share"


def shown(figure: str, value: float, stderr: float | None = None) -> str:
    """A figure as text, shares in percent, with its standard error where it has one."""
    unit = unit_of(figure)
    if unit == "share":
        return f"{100 * value:.1f} %" + ("" if stderr is None else f" ± {100 * stderr:.1f}")
    digits = {"tokens": 0 if abs(value) >= 1000 else 1, "iteration": 0, "grade": 2, "yes": 2}[unit]
    return f"{value:,.{digits}f}" + ("" if stderr is None else f" ± {stderr:,.{digits}f}")
