"""Results over seeds: means and standard errors in closed form, and a page that is made from the JSON alone."""

import json
import math
from pathlib import Path

import pytest

from r1kit.claims.results import across_seeds, page_of, without_seeds, write_page
from r1kit.run import plain

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("golden_results.md")


def row(zero, r1, *, own=61.0):
    figures = {"zero_mixing": zero, "r1_mixing": r1, "zero_less_5_times_r1": zero - 5 * r1}
    seconds = {"own": {"claims/a": own}, "shared": {"0-zero": 130.0}, "measuring": 9.0}
    return {
        "figures": figures,
        "holds": zero >= 5 * r1,
        "seconds": seconds,
        "tests": {"trained": {"n": 1000, "k": 4}},
    }


def results():
    claims = {"a": across_seeds("a", {0: row(0.30, 0.01), 1: row(0.40, 0.09), 2: row(0.35, 0.02)})}
    claims["b"] = across_seeds(
        "b",
        {0: row(0.0, 0.0) | {"figures": {"with_consistency": 0.97, "without_consistency": 0.9}, "holds": False}},
    )
    shared = {"0": {"0-zero": 130.0}, "1": {"0-zero": 140.0, "2-reasoning-rl": 3700.0}}
    found = {
        "about": {"machine": {"num_cores": 2, "processor": "Made-up 1000"}},
        "recipe": {},
        "claims": claims,
        "shared_seconds": shared,
    }
    return plain(found)


def test_means_and_standard_errors_are_those_of_independent_seeds():
    found = across_seeds("a", {2: row(0.35, 0.02), 0: row(0.30, 0.01), 1: row(0.40, 0.09)})
    assert found["mean"]["zero_mixing"] == pytest.approx(0.35)
    assert found["stderr"]["zero_mixing"] == pytest.approx(0.05 / math.sqrt(3))  # s = 0.05, n = 3
    assert found["mean"]["r1_mixing"] == pytest.approx(0.04)
    assert (found["holds_in"], found["num_seeds"], found["holds"]) == (2, 3, True)  # 0.35 >= 5 x 0.04
    assert list(found["seeds"]) == ["0", "1", "2"]


def test_the_verdict_is_about_the_means_not_the_majority_of_seeds():
    found = across_seeds("a", {0: row(0.30, 0.01), 1: row(0.30, 0.01), 2: row(0.30, 0.25)})
    assert found["holds_in"] == 2 and found["holds"] is False  # 0.30 < 5 x 0.09


def test_one_seed_has_no_standard_error():
    assert math.isnan(across_seeds("a", {0: row(0.3, 0.01)})["stderr"]["zero_mixing"])


def test_a_figure_that_some_seed_lacks_is_in_no_mean():
    other = row(0.3, 0.01)
    other["figures"] = {"zero_mixing": 0.3, "r1_mixing": 0.01}
    assert "zero_less_5_times_r1" not in across_seeds("a", {0: row(0.3, 0.01), 1: other})["mean"]


def test_seeds_are_taken_out_of_settings_at_any_depth():
    assert without_seeds({"seed": 1, "stages": [{"seed": 1, "lr": 2}]}) == {"stages": [{"lr": 2}]}


def test_the_page_is_the_golden_one():
    assert page_of(results()) == GOLDEN.read_text("utf-8")


def test_the_page_is_made_again_from_the_json(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(results()))
    write_page(tmp_path / "results.json", tmp_path / "results.md")
    assert (tmp_path / "results.md").read_text("utf-8") == GOLDEN.read_text("utf-8")


def test_the_published_page_is_made_from_the_published_figures():
    published = ROOT / "docs" / "results" / "nano_claims.json"
    if not published.is_file():
        pytest.skip("no results are published yet")
    assert (ROOT / "docs" / "results.md").read_text("utf-8") == page_of(json.loads(published.read_text("utf-8")))
