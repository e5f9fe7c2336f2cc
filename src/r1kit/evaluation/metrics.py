"""Figures of an evaluation: closed forms over counts of right answers."""

import math
from collections.abc import Sequence


def pass_at_k(num_samples: int, num_right: int, k: int) -> float:
    """The chance that at least one of k samples, drawn without replacement from these, is right.

    1 - C(n - c, k) / C(n, k): the unbiased estimator of arXiv:2107.03374, section 2.1.
    """
    if not 1 <= k <= num_samples:
        raise ValueError(f"k is {k}, but there are {num_samples} samples")
    return 1 - math.comb(num_samples - num_right, k) / math.comb(num_samples, k)


def powers_up_to(k: int) -> list[int]:
    """1, 2, 4, … and k itself: the points of a pass@k curve."""
    return [*(2**power for power in range(k.bit_length()) if 2**power < k), k]


def mean(values: Sequence[float]) -> float:
    """Their mean, summed without rounding, so that it does not depend on their order; nan of nothing."""
    return math.fsum(values) / len(values) if values else math.nan


def stderr_of_mean(values: Sequence[float]) -> float:
    """The standard error of the mean of independent values, from their sample variance; nan of fewer than two."""
    if len(values) < 2:
        return math.nan
    centre = mean(values)
    variance = math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1)
    return math.sqrt(variance / len(values))


def clustered_stderr(scores: Sequence[Sequence[float]]) -> float:
    """The standard error of the mean over all samples, those of one problem taken as one cluster.

    With the same k for every problem this is the standard error of the problems' means (with the C / (C - 1)
    correction); nan for a single problem.
    """
    return stderr_of_mean([mean(samples) for samples in scores])
