"""Figures of an evaluation against brute force and NumPy."""

import math
from itertools import combinations

import numpy as np
import pytest

from r1kit.evaluation.metrics import clustered_stderr, pass_at_k


@pytest.mark.parametrize("num_samples", [1, 2, 5, 8])
def test_pass_at_k_is_the_average_over_all_subsets_of_k(num_samples):
    for num_right in range(num_samples + 1):
        is_right = [True] * num_right + [False] * (num_samples - num_right)
        for k in range(1, num_samples + 1):
            outcomes = [any(subset) for subset in combinations(is_right, k)]
            assert pass_at_k(num_samples, num_right, k) == pytest.approx(sum(outcomes) / len(outcomes), abs=1e-12)


def test_pass_at_1_is_the_share_right_and_large_counts_do_not_overflow():
    assert pass_at_k(64, 16, 1) == 0.25
    assert pass_at_k(10_000, 1, 5_000) == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("k", [0, -1, 5])
def test_pass_at_k_of_more_samples_than_there_are_is_an_error(k):
    with pytest.raises(ValueError, match=f"k is {k}, but there are 4 samples"):
        pass_at_k(4, 2, k)


def test_clustered_stderr_is_that_of_the_problems_means():
    scores = np.random.default_rng(0).integers(0, 2, (30, 8)).astype(float)
    scores[:10] = 1  # samples of one problem resemble each other

    stderr = clustered_stderr(scores.tolist())

    # The cluster-robust variance of a mean, from residuals summed within each problem.
    residuals = (scores - scores.mean()).sum(-1)
    sandwich = math.sqrt((residuals**2).sum() * 30 / 29) / scores.size
    assert stderr == pytest.approx(sandwich, rel=1e-12)
    assert stderr == pytest.approx(scores.mean(-1).std(ddof=1) / math.sqrt(30), rel=1e-12)
    assert stderr > 1.3 * scores.std(ddof=1) / math.sqrt(scores.size)


def test_one_problem_has_no_stderr_and_equal_problems_have_stderr_0():
    assert math.isnan(clustered_stderr([[1.0, 0.0, 1.0]]))
    assert clustered_stderr([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]) == 0
