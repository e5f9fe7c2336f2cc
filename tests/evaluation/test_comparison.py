"""The paired comparison against NumPy, numerical integration and permutations."""

import math

import numpy as np
import pytest

from r1kit.evaluation.comparison import compare, sign_test, student_t_cdf, student_t_quantile


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 29, 30, 499])
@pytest.mark.parametrize("value", [-2.5, 0.0, 0.3, 1.7, 4.0])
def test_students_t_is_the_integral_of_its_density(degrees, value):
    x, step = np.linspace(0, abs(value), 20_001, retstep=True)
    log_scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(degrees * math.pi)
    density = np.exp(log_scale - (degrees + 1) / 2 * np.log1p(x**2 / degrees))
    simpson = step / 3 * (density[0] + density[-1] + 4 * density[1::2].sum() + 2 * density[2:-1:2].sum())
    assert student_t_cdf(value, degrees) == pytest.approx(0.5 + math.copysign(simpson, value), abs=1e-10)


@pytest.mark.parametrize(
    ("degrees", "printed"), [(1, 12.706), (2, 4.303), (5, 2.571), (29, 2.045), (30, 2.042), (120, 1.980)]
)
def test_the_97_5_percent_points_are_those_of_the_printed_table(degrees, printed):
    assert student_t_quantile(0.975, degrees) == pytest.approx(printed, abs=5e-4)


def test_a_comparison_is_that_of_the_differences_problem_by_problem():
    rng = np.random.default_rng(0)
    difficulty = rng.random(40)
    ours, theirs = (rng.binomial(8, np.clip(difficulty + shift, 0, 1)) / 8 for shift in (0.1, 0.0))
    names = [f"problem-{number}" for number in range(40)]

    found = compare(dict(zip(names, ours, strict=True)), dict(reversed(list(zip(names, theirs, strict=True)))))

    differences = ours - theirs
    assert found.n == 40
    assert found.difference == pytest.approx(differences.mean(), rel=1e-12)
    assert found.difference_stderr == pytest.approx(differences.std(ddof=1) / math.sqrt(40), rel=1e-12)
    variances = ours.var(ddof=1) + theirs.var(ddof=1)
    assert found.unpaired_stderr == pytest.approx(math.sqrt(variances / 40), rel=1e-12)
    # Var(a - b) = Var(a) + Var(b) - 2 Cov(a, b): what pairing saves is the covariance.
    covariance = np.cov(ours, theirs)[0, 1]
    assert found.difference_stderr**2 == pytest.approx((variances - 2 * covariance) / 40, rel=1e-9)
    assert found.difference_stderr < 0.5 * found.unpaired_stderr
    assert found.interval[1] - found.interval[0] == pytest.approx(2 * 2.0226909 * found.difference_stderr, rel=1e-6)
    assert (found.better, found.worse, found.equal) == tuple(
        int(count) for count in ((differences > 0).sum(), (differences < 0).sum(), (differences == 0).sum())
    )


def test_the_p_value_is_near_that_of_random_flips_of_signs():
    rng = np.random.default_rng(1)
    differences = rng.integers(-8, 12, 60) / 16
    found = compare({str(i): d for i, d in enumerate(differences)}, {str(i): 0.0 for i in range(60)})

    flipped = (differences * rng.choice((1, -1), (20_000, 60))).mean(1)
    assert 0.01 < found.p_value < 0.5
    assert found.p_value == pytest.approx(np.mean(abs(flipped) >= abs(differences.mean()) - 1e-12), abs=0.01)


def test_with_one_sample_a_problem_the_sign_test_is_mcnemars():
    ours = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.0, "e": 1.0, "f": 0.0}
    theirs = {"a": 0.0, "b": 0.0, "c": 0.0, "d": 1.0, "e": 1.0, "f": 0.0}
    found = compare(ours, theirs)
    assert (found.better, found.worse, found.equal) == (3, 1, 2)
    # Of four that differ, 3 to 1 or further: (1 + 4 + 4 + 1) / 16.
    assert found.sign_p_value == 10 / 16
    assert sign_test(0, 0) == 1
    assert sign_test(0, 10) == 2 / 1024
    assert sign_test(6000, 5000) == pytest.approx(math.erfc(1000 / math.sqrt(2 * 11_000)), rel=0.15)


def test_only_problems_of_both_are_compared_and_few_or_equal_ones_make_no_false_precision():
    assert compare({"a": 1.0, "b": 0.5}, {"b": 0.25, "c": 1.0}).n == 1
    alone = compare({"a": 1.0}, {"a": 0.0})
    assert math.isnan(alone.difference_stderr) and math.isnan(alone.p_value) and math.isnan(alone.interval[0])
    same = compare({"a": 1.0, "b": 0.0}, {"a": 1.0, "b": 0.0})
    assert (same.difference, same.p_value, same.sign_p_value) == (0, 1, 1)
    with pytest.raises(ValueError, match="no problem in common"):
        compare({"a": 1.0}, {"b": 1.0})
