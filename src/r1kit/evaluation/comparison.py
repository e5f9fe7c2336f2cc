"""Two models on the same problems: the difference problem by problem, which is far surer than two figures side by side.

The difficulty of a problem moves both models' shares alike, and cancels in their difference (arXiv:2411.00640).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from r1kit.evaluation.metrics import mean, stderr_of_mean

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What this model's share of right samples is above the other's, over the problems that both have answered."""

    n: int
    """Problems that both have a share for."""
    difference: float
    """Mean over problems of this model's share of right samples minus the other's."""
    difference_stderr: float
    """Its standard error, from the differences of the problems; nan for one problem."""
    interval: tuple[float, float]
    """Holds the true difference in 95 % of such experiments: Student's t with n - 1 degrees of freedom."""
    p_value: float
    """How often a difference this far from 0, either way, would be seen if there were none: the same t."""
    unpaired_stderr: float
    """The standard error that two independent sets of problems would give: what pairing has saved."""
    better: int
    """Problems on which this model's share is higher."""
    worse: int
    equal: int
    sign_p_value: float
    """The exact two-sided sign test on better and worse; with one sample a problem it is McNemar's exact test."""


def compare(this: Mapping[str, float], other: Mapping[str, float]) -> Comparison:
    """The paired comparison of two tables from problem to share of right samples, over the problems in both.

    Raises ValueError where they have no problem in common.
    """
    shared = [name for name in this if name in other]
    if not shared:
        raise ValueError("no problem in common")
    differences = [this[name] - other[name] for name in shared]
    centre, stderr = mean(differences), stderr_of_mean(differences)
    margin = student_t_quantile((1 + CONFIDENCE) / 2, len(shared) - 1) * stderr if len(shared) > 1 else math.nan
    better, worse = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return Comparison(
        n=len(shared),
        difference=centre,
        difference_stderr=stderr,
        interval=(centre - margin, centre + margin),
        p_value=_p_value(centre, stderr, len(shared) - 1),
        unpaired_stderr=math.hypot(*(stderr_of_mean([table[name] for name in shared]) for table in (this, other))),
        better=better,
        worse=worse,
        equal=len(shared) - better - worse,
        sign_p_value=sign_test(better, worse),
    )


def sign_test(better: int, worse: int) -> float:
    """The exact two-sided p-value of so many signs each way when both are equally likely: McNemar's exact test."""
    total, fewer = better + worse, min(better, worse)
    tail = sum(math.comb(total, count) for count in range(fewer + 1))
    return min(1.0, 2 * tail / 2**total)


def student_t_cdf(value: float, degrees: int) -> float:
    """P(T <= value) for Student's t with a whole number of degrees of freedom.

    The finite series of Abramowitz and Stegun, 26.7.3 and 26.7.4: exact, but for rounding.
    """
    if degrees < 1:
        raise ValueError(f"{degrees} degrees of freedom")
    angle = math.atan2(value, math.sqrt(degrees))
    cosine = math.cos(angle)
    is_odd = degrees % 2
    term, total = (cosine if is_odd else 1.0), 0.0
    # 26.7.3 begins with cos θ (and is empty for one degree), 26.7.4 with 1; the factors are 2/3, 4/5, … and 1/2, 3/4, …
    for step in range(1 + is_odd, degrees, 2):
        total += term
        term *= step / (step + 1) * cosine * cosine
    within = 2 / math.pi * (angle + math.sin(angle) * total) if is_odd else math.sin(angle) * total
    return 0.5 + within / 2


def student_t_quantile(probability: float, degrees: int) -> float:
    """The value that T stays below with a probability of at least a half, by bisection to the last bits."""
    if not 0.5 <= probability < 1:
        raise ValueError(f"a probability of {probability} is not in [0.5, 1)")
    low, high = 0.0, 1.0
    while student_t_cdf(high, degrees) < probability:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if student_t_cdf(middle, degrees) < probability else (low, middle)
    return high


def _p_value(centre: float, stderr: float, degrees: int) -> float:
    """Two-sided; nan without a standard error, and where nothing varies, 1 for no difference and 0 for some."""
    if math.isnan(stderr):
        return math.nan
    if stderr == 0:
        return float(centre == 0)
    return 2 * (1 - student_t_cdf(abs(centre / stderr), degrees))
